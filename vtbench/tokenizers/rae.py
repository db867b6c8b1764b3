"""Representation autoencoders (https://arxiv.org/abs/2510.11690): a frozen encoder of images as it was
trained for other ends, and a ViT trained to draw what it saw; bytetriper/RAE, src/stage1.

The encoder is the transformers library's, without its own weights for the last norm; the decoder is
diffusers' `RAEDecoder`. The library's `AutoencoderRAE` of both cannot be used: its encoders miss their
weights where transformers renamed parameters after the file was written, and are left random.
ZitengWangNYU/Scale-RAE (https://arxiv.org/abs/2601.16208) has the same decoder behind a larger encoder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as functional

# Imported here: a library first imported on the meta device keeps constants without values.
from diffusers.models.autoencoders.autoencoder_rae import RAEDecoder
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from torch import Tensor, nn

from vtbench.base.errors import RegistryError, WeightsMismatch, WeightsMissing
from vtbench.base.files import read_bounded
from vtbench.base.records import Spec
from vtbench.base.schema import MAX_JSON_BYTES, Strict, load_json
from vtbench.tokenizers.network import Autoencoder, Names, NetworkTokenizer, check_facts
from vtbench.tokenizers.nn.conv import Count
from vtbench.weights.containers import PICKLES
from vtbench.weights.states import load_state

EPSILON = 1e-5
"""Added to the latents' variance (stage1/rae.py)."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of pixels that DINOv2 and MAE expect; SigLIP takes ½ for both."""


BACKBONES: Mapping[str, tuple[str, str, str, int, Mapping[str, Any]]] = {
    "dinov2": ("Dinov2WithRegisters", "", "layernorm", 5, {"image_size": 518}),
    "siglip2": ("SiglipVision", "vision_model.", "post_layernorm", 0, {"vision_use_head": False}),
    "mae": ("ViTMAE", "vit.", "layernorm", 1, {"image_size": 224, "mask_ratio": 0.0}),
}
"""Of an encoder: its class in transformers without Model and Config; what its keys start with in its
own repository; its last norm; tokens before those of patches; settings beside the plan's."""

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


class DecoderPlan(Strict):
    """The decoder's keys of AutoencoderRAE's config.json: of the ViT."""

    decoder_hidden_size: Count = 1152
    decoder_num_hidden_layers: Count = 28
    decoder_num_attention_heads: Count = 16
    decoder_intermediate_size: Count = 4096
    patch_size: Count = 16


class RaePlan(DecoderPlan):
    """The keys of AutoencoderRAE's config.json, and three more: encoder_head_width, encoder_mlp and
    statistics. encoder_…: a backbone of `BACKBONES`, and the side of the picture that it sees.
    encoder_mlp: four times the width unless given. statistics: each value of the latents is
    normalised by its mean and deviation, as the generator takes them."""

    encoder_type: Literal["dinov2", "siglip2", "mae"]
    encoder_hidden_size: Count
    encoder_num_hidden_layers: Count
    encoder_patch_size: Count
    encoder_input_size: Count
    encoder_head_width: Count = 64
    encoder_mlp: Count | None = None
    statistics: bool = True

    @property
    def grid(self) -> int:
        """Patches on a side."""
        return self.encoder_input_size // self.encoder_patch_size


def make_encoder(plan: RaePlan) -> Any:
    """Return the backbone with random weights, its last norm without any."""
    name, _, norm, _, settings = BACKBONES[plan.encoder_type]
    width = plan.encoder_hidden_size
    mlp = {} if name.startswith("Dino") else {"intermediate_size": plan.encoder_mlp or 4 * width}
    library = import_module("transformers")
    config = getattr(library, f"{name}Config")(
        hidden_size=width,
        num_hidden_layers=plan.encoder_num_hidden_layers,
        num_attention_heads=width // plan.encoder_head_width,
        patch_size=plan.encoder_patch_size,
        **{"image_size": plan.encoder_input_size, **mlp, **settings},
    )
    model = getattr(library, f"{name}Model")(config)
    setattr(model, norm, nn.LayerNorm(width, config.layer_norm_eps, elementwise_affine=False))
    return model


def make_decoder(plan: DecoderPlan, width: int, grid: int) -> Any:
    """Return the decoder of grid×grid vectors of the width with random weights."""
    keys = {key: value for key, value in plan.model_dump().items() if key.startswith("decoder_")}
    decoder: Any = RAEDecoder(
        width,
        num_patches=grid**2,
        patch_size=plan.patch_size,
        image_size=grid * plan.patch_size,
        **keys,
    )
    # The official file has the positions, so they are part of the state.
    decoder.register_buffer("decoder_pos_embed", decoder.decoder_pos_embed)
    return decoder


def rename_part(key: str, part: str = "") -> str:
    """Return the libraries' name of an official key of the part ("decoder.", "encoder.")."""
    key = part + key
    for pattern, replacement in RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def read_statistics(path: Path) -> dict[str, Tensor]:
    """Return mean and deviation of the latents, as the network has them. Raises WeightsMissing or
    WeightsMismatch."""
    found = load_state(path)
    if found.keys() != {"mean", "var"}:
        raise WeightsMismatch(f"{path} has {', '.join(sorted(found))}, not mean and var")
    return {"_latents_mean": found["mean"], "_latents_std": (found["var"] + EPSILON).sqrt()}


class RaeNetwork(Autoencoder):
    """encoder and decoder; tensors have the names that diffusers' AutoencoderRAE gives them."""

    encoder_mean: Tensor
    encoder_std: Tensor
    _latents_mean: Tensor
    _latents_std: Tensor

    def __init__(self, plan: RaePlan) -> None:
        super().__init__()
        self.plan = plan
        self.encoder = make_encoder(plan)
        self.decoder = make_decoder(plan, plan.encoder_hidden_size, plan.grid)
        for name, tensor in list_pixel_statistics(plan).items():
            self.register_buffer(name, tensor)
        if plan.statistics:
            shape = (plan.encoder_hidden_size, plan.grid, plan.grid)
            self.register_buffer("_latents_mean", torch.zeros(shape))
            self.register_buffer("_latents_std", torch.ones(shape))

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×C×h×w of N×3×H×W images in [0, 1], resized to what the encoder takes."""
        side = (self.plan.encoder_input_size,) * 2
        if images.shape[-2:] != side:
            # Without antialiasing, as stage1/rae.py does: the encoder never saw anything else.
            images = functional.interpolate(images, side, mode="bicubic", align_corners=False)
        images = (images - self.encoder_mean) / self.encoder_std
        settings: dict[str, Any] = {}
        if self.plan.encoder_type == "mae":
            # The order that masking puts patches into: their own, and none is masked.
            order = torch.arange(self.plan.grid**2, device=images.device, dtype=torch.float32)
            settings = {"noise": order.expand(len(images), -1), "interpolate_pos_encoding": True}
        tokens = self.encoder(images, **settings).last_hidden_state
        tokens = tokens[:, BACKBONES[self.plan.encoder_type][3] :]
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
    values = ((0.5,) * 3,) * 2 if plan.encoder_type == "siglip2" else IMAGENET
    mean, deviation = (torch.tensor(value).view(1, 3, 1, 1) for value in values)
    return {"encoder_mean": mean, "encoder_std": deviation}


class Rae(NetworkTokenizer[RaePlan]):
    """weights: a folder with config.json and diffusion_pytorch_model.safetensors, as diffusers writes
    them; or the official decoder (.pt), or the folder that has it alone, with the encoder's own
    model.safetensors beside it, and stat.pt where the plan has statistics."""

    read_beside = (CONFIG, ENCODER, STATISTICS)
    PLAN = RaePlan
    INPUT_RANGE = (0.0, 1.0)

    @classmethod
    def libraries(cls, options: Mapping[str, object]) -> dict[str, str]:
        """Return diffusers and transformers with their versions: the networks are theirs."""
        return {name: version(name) for name in ("diffusers", "transformers")}

    @classmethod
    def make_network(cls, spec: Spec, plan: RaePlan) -> RaeNetwork:
        """Return the network with random weights."""
        side = plan.grid * plan.patch_size
        check_facts(
            spec,
            {
                "kind": (spec.kind, "continuous"),
                "downsample": (spec.downsample, plan.patch_size),
                "input_range": (spec.input_range, cls.INPUT_RANGE),
                "latent_channels": (spec.latent_channels, plan.encoder_hidden_size),
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
        folder = weights if weights.is_dir() else weights.parent
        if weights.is_dir() and not (weights / WEIGHTS).is_file():
            weights = find_decoder(weights)
        check_config(folder / CONFIG, plan)

        def rename(key: str, part: str = "") -> str | None:
            key = rename_part(key, part)
            if plan.encoder_type == "mae":
                key = key.replace("encoder.encoder.layer.", "encoder.layers.")
            return None if UNUSED.match(key) else key

        if weights.is_dir() or weights.suffix == ".safetensors":
            state = load_state(folder / WEIGHTS if weights.is_dir() else weights, rename=rename)
        else:
            state = list_pixel_statistics(plan)
            state |= load_state(weights, rename=lambda key: rename(key, "decoder."))
            state |= load_state(
                folder / ENCODER,
                prefix=BACKBONES[plan.encoder_type][1],
                rename=lambda key: rename(key, "encoder."),
            )
            if plan.statistics:
                state |= read_statistics(folder / STATISTICS)
        # diffusers leaves the positions out, which follow from the size.
        positions = get_2d_sincos_pos_embed(
            plan.decoder_hidden_size, plan.grid, cls_token=True, extra_tokens=1, output_type="pt"
        )
        state.setdefault("decoder.decoder_pos_embed", positions[None].float())
        return state


def find_decoder(folder: Path) -> Path:
    """Return the one decoder in a folder of the authors' parts. Raises WeightsMissing."""
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix in PICKLES and path.name != STATISTICS
    ]
    if len(found) != 1 or not (folder / ENCODER).is_file():
        raise WeightsMissing(
            f"{folder} has neither {WEIGHTS} nor {ENCODER} beside one decoder (.pt) and {STATISTICS}"
        )
    return found[0]


def check_config(path: Path, plan: RaePlan) -> None:
    """Raise WeightsMismatch where a config.json beside the weights says another thing than the plan;
    that of Scale-RAE's decoder has the decoder's keys of it."""
    if not path.is_file():
        return
    try:
        content = read_bounded(path, max_bytes=MAX_JSON_BYTES, raise_as=WeightsMismatch, links=True)
        found = dict(load_json(content))
    except (TypeError, ValueError) as error:
        raise WeightsMismatch(f"{path} is no JSON mapping ({error})") from None
    for key, value in {**plan.model_dump(), "scaling_factor": 1.0, "reshape_to_2d": True}.items():
        if found.get(key, value) != value:
            raise WeightsMismatch(f"{path}: {key} is {found[key]}, the entry needs {value}")
