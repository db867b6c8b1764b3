"""Representation autoencoders (https://arxiv.org/abs/2510.11690): a frozen encoder of images as it was
trained for other ends, and a ViT trained to draw what it saw; bytetriper/RAE, src/stage1.

The encoder is the transformers library's, without its own weights for the last norm; the decoder is
diffusers' `RAEDecoder`. The library's `AutoencoderRAE` of both cannot be used: its encoders miss their
weights where transformers renamed parameters after the file was written, and are left random.
ZitengWangNYU/Scale-RAE (https://arxiv.org/abs/2601.16208) has the same decoder behind a larger encoder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from vtbench.errors import RegistryError, WeightsMismatch
from vtbench.records import Spec
from vtbench.registry import Strict
from vtbench.tokenizers.loading import load_state
from vtbench.tokenizers.network import Autoencoder, Names, NetworkTokenizer, check_facts
from vtbench.tokenizers.nn.conv import Count

EPSILON = 1e-5
"""Added to the latents' variance (stage1/rae.py)."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of pixels that DINOv2 and MAE expect; SigLIP takes ½ for both."""


@dataclass(frozen=True)
class Backbone:
    """An encoder of transformers. name: of its class, without Model and Config; prefix: of its keys in
    its own repository; norm: its last one; skip: tokens before those of the patches; settings: of its
    config, beside the plan's."""

    name: str
    prefix: str
    norm: str
    skip: int
    settings: Mapping[str, Any]


BACKBONES: Mapping[str, Backbone] = {
    "dinov2": Backbone("Dinov2WithRegisters", "", "layernorm", 5, {"image_size": 518}),
    "siglip2": Backbone(
        "SiglipVision", "vision_model.", "post_layernorm", 0, {"vision_use_head": False}
    ),
    "mae": Backbone("ViTMAE", "vit.", "layernorm", 1, {"image_size": 224, "mask_ratio": 0.0}),
}

RENAMES: Names = (
    (r"^encoder\.vision_model\.", "encoder."),
    (r"\.attention\.attention\.([qkv])\w+\.", r".attention.\1_proj."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"^(encoder\..*)\.intermediate\.dense\.", r"\1.mlp.fc1."),
    (r"^(encoder\..*)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"^(decoder\..*\.attention)\.([qkv])_proj\.", r"\1.to_\2."),
    (r"^(decoder\..*\.attention)\.o_proj\.", r"\1.to_out.0."),
)
"""From names of files (transformers' before 5.6 … 5.20, the official decoder's) to the libraries'."""

UNUSED = re.compile(r"encoder\.((post_)?layernorm|head)\.|encoder\.embeddings\.position_ids$")
"""Of an encoder's own file: its last norm's weights, which RAE takes away, and the pooling head."""

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
ENCODER, STATISTICS = "model.safetensors", "stat.pt"


class RaePlan(Strict):
    """encoder: of `BACKBONES`, with its width, layers, heads, and mlp where that is not four times the
    width; patch and side of the picture that it sees, in pixels. decoder_…: of the ViT, whose patches
    are `decoder_patch` pixels wide. statistics: latents are normalised by a mean and deviation of each
    value, as the generator takes them."""

    encoder: Literal["dinov2", "siglip2", "mae"]
    width: Count
    layers: Count
    heads: Count
    mlp: Count | None = None
    patch: Count
    side: Count
    decoder_width: Count = 1152
    decoder_layers: Count = 28
    decoder_heads: Count = 16
    decoder_mlp: Count = 4096
    decoder_patch: Count = 16
    statistics: bool = True

    @property
    def grid(self) -> int:
        """Patches on a side."""
        return self.side // self.patch


def make_encoder(plan: RaePlan) -> Any:
    """Return the backbone with random weights, its last norm without any."""
    backbone = BACKBONES[plan.encoder]
    library = import_module("transformers")
    mlp = {} if plan.encoder == "dinov2" else {"intermediate_size": plan.mlp or 4 * plan.width}
    config = getattr(library, f"{backbone.name}Config")(
        hidden_size=plan.width,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.heads,
        patch_size=plan.patch,
        **{"image_size": plan.side, **mlp, **backbone.settings},
    )
    model = getattr(library, f"{backbone.name}Model")(config)
    norm = nn.LayerNorm(plan.width, eps=config.layer_norm_eps, elementwise_affine=False)
    setattr(model, backbone.norm, norm)
    return model


class RaeNetwork(Autoencoder):
    """encoder and decoder; tensors have the names that diffusers' AutoencoderRAE gives them."""

    encoder_mean: Tensor
    encoder_std: Tensor
    _latents_mean: Tensor
    _latents_std: Tensor

    def __init__(self, plan: RaePlan) -> None:
        super().__init__()
        from diffusers.models.autoencoders.autoencoder_rae import RAEDecoder

        self.plan = plan
        self.encoder = make_encoder(plan)
        decoder: Any = RAEDecoder(
            hidden_size=plan.width,
            decoder_hidden_size=plan.decoder_width,
            decoder_num_hidden_layers=plan.decoder_layers,
            decoder_num_attention_heads=plan.decoder_heads,
            decoder_intermediate_size=plan.decoder_mlp,
            num_patches=plan.grid**2,
            patch_size=plan.decoder_patch,
            image_size=plan.grid * plan.decoder_patch,
        )
        # The official file has the positions, so they are part of the state.
        decoder.register_buffer("decoder_pos_embed", decoder.decoder_pos_embed)
        self.decoder = decoder
        for name, tensor in list_pixel_statistics(plan).items():
            self.register_buffer(name, tensor)
        if plan.statistics:
            shape = (plan.width, plan.grid, plan.grid)
            self.register_buffer("_latents_mean", torch.zeros(shape))
            self.register_buffer("_latents_std", torch.ones(shape))

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×C×h×w of N×3×H×W images in [0, 1], resized to what the encoder takes."""
        side = (self.plan.side, self.plan.side)
        if images.shape[-2:] != side:
            # Without antialiasing, as stage1/rae.py does: the encoder never saw anything else.
            images = functional.interpolate(images, side, mode="bicubic", align_corners=False)
        images = (images - self.encoder_mean) / self.encoder_std
        settings: dict[str, Any] = {}
        if self.plan.encoder == "mae":
            # The order that masking puts patches into: their own, and none is masked.
            order = torch.arange(self.plan.grid**2, device=images.device, dtype=torch.float32)
            settings = {"noise": order.expand(len(images), -1), "interpolate_pos_encoding": True}
        tokens = self.encoder(images, **settings).last_hidden_state
        tokens = tokens[:, BACKBONES[self.plan.encoder].skip :]
        latents: Tensor = tokens.mT.unflatten(2, (self.plan.grid, self.plan.grid))
        if self.plan.statistics:
            latents = (latents - self._latents_mean) / self._latents_std
        return latents.contiguous()

    def encode(self, images: Tensor) -> Tensor:
        """Return `compute_latents`: nothing is quantized."""
        return self.compute_latents(images)

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images of latents; H and W are the decoder's, whatever was encoded."""
        assert isinstance(code, Tensor)
        if self.plan.statistics:
            code = code * self._latents_std + self._latents_mean
        patches = self.decoder(code.flatten(2).mT.contiguous()).logits
        images: Tensor = self.decoder.unpatchify(patches) * self.encoder_std + self.encoder_mean
        return images


def list_pixel_statistics(plan: RaePlan) -> dict[str, Tensor]:
    """Return mean and deviation of pixels, 1×3×1×1, that the encoder expects."""
    values = ((0.5,) * 3,) * 2 if plan.encoder == "siglip2" else IMAGENET
    mean, deviation = (torch.tensor(value).view(1, 3, 1, 1) for value in values)
    return {"encoder_mean": mean, "encoder_std": deviation}


class Rae(NetworkTokenizer[RaePlan]):
    """weights: a folder with config.json and diffusion_pytorch_model.safetensors, as diffusers writes
    them; or the official decoder (.pt) with the encoder's own model.safetensors beside it, and stat.pt
    where the plan has statistics."""

    PLAN = RaePlan
    INPUT_RANGE = (0.0, 1.0)

    @classmethod
    def libraries(cls, options: Mapping[str, object]) -> dict[str, str]:
        """Return diffusers and transformers with their versions: the networks are theirs."""
        return {name: version(name) for name in ("diffusers", "transformers")}

    @classmethod
    def make_network(cls, spec: Spec, plan: RaePlan) -> RaeNetwork:
        """Return the network with random weights."""
        side = plan.grid * plan.decoder_patch
        check_facts(
            spec,
            {
                "kind": (spec.kind, "continuous"),
                "downsample": (spec.downsample, plan.decoder_patch),
                "input_range": (spec.input_range, cls.INPUT_RANGE),
                "latent_channels": (spec.latent_channels, plan.width),
                "size.fixed": (spec.size.fixed, (side, side)),
            },
        )
        try:
            return RaeNetwork(plan)
        except ModuleNotFoundError:
            raise RegistryError(
                f'{spec.name} needs transformers: `pip install "vtbench[transformers]"`'
            ) from None

    def read_state(self, weights: Path, plan: RaePlan, **layout: Any) -> dict[str, Tensor]:
        """Return the tensors of either form."""
        from diffusers.models.embeddings import get_2d_sincos_pos_embed

        folder = weights if weights.is_dir() else weights.parent
        check_config(folder / CONFIG, plan)
        backbone = BACKBONES[plan.encoder]

        def rename(key: str, part: str = "") -> str | None:
            key = part + key
            for pattern, replacement in RENAMES:
                key = re.sub(pattern, replacement, key)
            if plan.encoder == "mae":
                key = key.replace("encoder.encoder.layer.", "encoder.layers.")
            return None if UNUSED.match(key) else key

        if weights.is_dir() or weights.suffix == ".safetensors":
            state = load_state(folder / WEIGHTS if weights.is_dir() else weights, rename=rename)
        else:
            state = list_pixel_statistics(plan)
            state |= load_state(weights, rename=lambda key: rename(key, "decoder."))
            state |= load_state(
                folder / ENCODER,
                prefix=backbone.prefix,
                rename=lambda key: rename(key, "encoder."),
            )
            if plan.statistics:
                found = load_state(folder / STATISTICS)
                if found.keys() != {"mean", "var"}:
                    names = ", ".join(sorted(found))
                    raise WeightsMismatch(f"{folder / STATISTICS} has {names}, not mean and var")
                state["_latents_mean"] = found["mean"]
                state["_latents_std"] = (found["var"] + EPSILON).sqrt()
        # diffusers leaves the positions out, which follow from the size.
        positions = get_2d_sincos_pos_embed(
            plan.decoder_width, plan.grid, cls_token=True, extra_tokens=1, output_type="pt"
        )
        state.setdefault("decoder.decoder_pos_embed", positions[None].float())
        return state


def check_config(path: Path, plan: RaePlan) -> None:
    """Raise WeightsMismatch where a config.json beside the weights says another thing than the plan;
    AutoencoderRAE's has all of these keys, that of Scale-RAE's decoder the last five."""
    if not path.is_file():
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise WeightsMismatch(f"{path} is not JSON ({error})") from None
    expected = {
        "encoder_type": plan.encoder,
        "encoder_hidden_size": plan.width,
        "encoder_patch_size": plan.patch,
        "encoder_num_hidden_layers": plan.layers,
        "encoder_input_size": plan.side,
        "scaling_factor": 1.0,
        "reshape_to_2d": True,
        "decoder_hidden_size": plan.decoder_width,
        "decoder_num_hidden_layers": plan.decoder_layers,
        "decoder_num_attention_heads": plan.decoder_heads,
        "decoder_intermediate_size": plan.decoder_mlp,
        "patch_size": plan.decoder_patch,
    }
    if not isinstance(found, dict):
        raise WeightsMismatch(f"{path} holds no mapping")
    for key, value in expected.items():
        if found.get(key, value) != value:
            raise WeightsMismatch(f"{path}: {key} is {found[key]}, the entry needs {value}")
