"""Files of authors' own code → the names of the library class that drives the same network.

Most weights of the hub are a conversion that the library's people made. What the authors published
themselves has other names, which are written down here, once a kind of file. `tests/parity/library`
holds each of them against the official code.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

Names = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
State = dict[str, Tensor]
Config = Mapping[str, Any]


@dataclass(frozen=True)
class Layout:
    """How the authors' file of a class differs from the library's.

    Attributes:
        mark: A pattern that one of their keys matches and none of the library's.
        name: Given all keys and the class's config, the patterns and replacements that are done in
            turn on each key. What becomes `to_q_k_v` is cut into its three.
        converter: A function of diffusers.loaders.single_file_utils that comes first.
        lead: What stands before each key in the file of a whole generator, whose other keys are
            left out; the converter wants it.
        dropped: Keys of theirs that the library's class has no tensor for.
        linear: Keys here of 1×1 convolutions that are linear layers in the library.
        parts: The names' endings of several files that make up the state, each with the prefix of
            its keys.
    """

    mark: str
    name: Callable[[Collection[str], Config], Names] | None = None
    converter: str | None = None
    lead: str = ""
    dropped: str = r"$^"
    linear: str = r"$^"
    parts: Mapping[str, str] | None = None

    def fits(self, state: Mapping[str, Tensor]) -> bool:
        """Return whether the tensors have the authors' names."""
        return any(re.search(self.mark, key.removeprefix(self.lead)) for key in state)

    def convert(self, state: State, config: Config) -> State:
        """Return the tensors under the library's names. A key that no rule knows keeps its name, for
        the strict load to refuse."""
        whole = any(key.startswith(self.lead) for key in state)
        state = {
            key.removeprefix(self.lead): value
            for key, value in state.items()
            if not whole or key.startswith(self.lead)
        }
        state = {key: value for key, value in state.items() if not re.search(self.dropped, key)}
        if self.converter is not None:
            module = importlib.import_module("diffusers.loaders.single_file_utils")
            led = {self.lead + key: value for key, value in state.items()}
            state = getattr(module, self.converter)(led, config=config)
        names = self.name(state, config) if self.name is not None else ()
        renamed = {}
        for key, value in state.items():
            for pattern, replacement in names:
                key = re.sub(pattern, replacement, key)
            is_linear = re.search(self.linear, key) and value.shape[2:] == (1, 1)
            if ".to_q_k_v." in key:
                for name, third in zip("qkv", value.chunk(3), strict=True):
                    renamed[key.replace(".to_q_k_v.", f".to_{name}.")] = third
                continue
            renamed[key] = value[:, :, 0, 0] if is_linear else value
        return renamed


def _reverse(keys: Collection[str], level: str) -> Callable[[re.Match[str]], str]:
    """Return a replacement that numbers levels from the other end: group 2 is the number."""
    found = [int(match[2]) for key in keys if (match := re.search(level, key))]
    return lambda match: f"{match[1]}{max(found) - int(match[2])}."


def _name_ldm(keys: Collection[str], config: Config) -> Names:
    spatial: Names = ()
    if config.get("norm_type") == "spatial":
        spatial = ((r"^(decoder.*attentions\.\d+)\.norm\.", r"\1.spatial_norm."),)
    return (
        (r"^(en|de)coder\.(post_)?quant_conv\.", r"\2quant_conv."),
        (r"^decoder\.encoder\.", "decoder.condition_encoder."),
        (r"^(encoder|decoder)\.mid\.block_1\.", r"\1.mid_block.resnets.0."),
        (r"^(encoder|decoder)\.mid\.block_2\.", r"\1.mid_block.resnets.1."),
        (r"^(encoder|decoder)\.mid\.attn_1\.", r"\1.mid_block.attentions.0."),
        (r"^encoder\.down\.", "encoder.down_blocks."),
        (r"^(decoder\.up)\.(\d+)\.", r"\1_blocks.\2."),
        (r"^(decoder\.up_blocks\.)(\d+)\.", _reverse(keys, r"^(decoder\.up)\.(\d+)\.")),
        (r"\.downsample\.", ".downsamplers.0."),
        (r"\.upsample\.", ".upsamplers.0."),
        (r"\.block\.(\d+)\.", r".resnets.\1."),
        (r"\.attn\.(\d+)\.", r".attentions.\1."),
        (r"\.nin_shortcut\.", ".conv_shortcut."),
        (r"\.(q|k|v)\.(weight|bias)$", r".to_\1.\2"),
        (r"\.proj_out\.(weight|bias)$", r".to_out.0.\1"),
        *spatial,
        (r"(attentions\.\d+)\.norm\.", r"\1.group_norm."),
        (r"\.norm_out\.", ".conv_norm_out."),
    )


def _name_causal(keys: Collection[str], config: Config) -> Names:
    return tuple(rule for rule in _name_ldm(keys, config) if rule[1] != ".conv_norm_out.")


def _name_temporal(keys: Collection[str], config: Config) -> Names:
    return (
        *_name_ldm(keys, config),
        (r"^decoder\.conv_out\.time_mix_conv\.", "decoder.time_conv_out."),
        (r"^(decoder\..*resnets\.\d+)\.((norm|conv)\w+\.)", r"\1.spatial_res_block.\2"),
        (r"\.time_stack\.in_layers\.0\.", ".temporal_res_block.norm1."),
        (r"\.time_stack\.in_layers\.2\.", ".temporal_res_block.conv1."),
        (r"\.time_stack\.out_layers\.0\.", ".temporal_res_block.norm2."),
        (r"\.time_stack\.out_layers\.3\.", ".temporal_res_block.conv2."),
        (r"\.mix_factor$", ".time_mixer.mix_factor"),
    )


def _name_tiny(keys: Collection[str], config: Config) -> Names:
    # The official decoder has a clamp, which the library has elsewhere, at place 0.
    return (
        (r"^encoder\.(\d+)\.", r"encoder.layers.\1."),
        (r"^decoder\.(\d+)\.", lambda match: f"decoder.layers.{int(match[1]) - 1}."),
    )


def _name_dc(keys: Collection[str], config: Config) -> Names:
    # The library's converter looks at the encoder alone; the decoder may end otherwise (DC-AE-Lite).
    if config["decoder_layers_per_block"][0]:
        return ()
    return ((r"^decoder\.conv_out\.(weight|bias)$", r"decoder.conv_out.conv.\1"),)


def _name_hunyuan_image(keys: Collection[str], config: Config) -> Names:
    # The library has blocks and resampling of all levels in one row.
    row = re.compile(r"^(encoder\.down|decoder\.up)\.(\d+)\.(block\.\d+|(?:down|up)sample)\.")
    found = {match.groups() for key in keys if (match := row.match(key))}

    def order(place: tuple[str, ...]) -> tuple[int, int, int]:
        kind, _, index = place[2].partition(".")
        return int(place[1]), int(kind != "block"), int(index or 0)

    def flatten(match: re.Match[str]) -> str:
        side = sorted((place for place in found if place[0] == match[1]), key=order)
        return f"{match[1]}_blocks.{side.index(match.groups())}."

    return (
        (row.pattern, flatten),
        (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
        (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
        (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
        (r"\.(q|k|v)\.(weight|bias)$", r".to_\1.\2"),
        (r"\.proj_out\.", ".proj."),
    )


def _name_hunyuan_video(keys: Collection[str], config: Config) -> Names:
    return (
        (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
        (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
        (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
        (r"\.(q|k|v)\.(weight|bias)$", r".to_\1.\2"),
        (r"^encoder\.down\.", "encoder.down_blocks."),
        (r"^decoder\.up\.", "decoder.up_blocks."),
        (r"\.block\.(\d+)\.", r".resnets.\1."),
        (r"\.downsample\.", ".downsamplers.0."),
        (r"\.upsample\.", ".upsamplers.0."),
        (r"\.nin_shortcut\.", ".conv_shortcut."),
    )


def _name_mochi(keys: Collection[str], config: Config) -> Names:
    first, middle = config["layers_per_block"][0], len(config["spatial_expansions"])

    def place_encoder(match: re.Match[str]) -> str:
        place = int(match[1]) - 1
        if place < first:
            return f"encoder.block_in.resnets.{place}."
        if place < first + middle:
            return f"encoder.down_blocks.{place - first}."
        return f"encoder.block_out.resnets.{place - first - middle}."

    def less(match: re.Match[str]) -> str:
        return f"{match[1]}.resnets.{int(match[2]) - 1}."

    return (
        (r"^encoder\.layers\.0\.", "encoder.proj_in."),
        (r"^encoder\.layers\.(\d+)\.", place_encoder),
        (r"^(encoder\.down_blocks\.\d+)\.layers\.0\.", r"\1.conv_in.conv."),
        (r"^(encoder\.down_blocks\.\d+)\.layers\.(\d+)\.", less),
        (r"^decoder\.blocks\.0\.0\.", "decoder.conv_in."),
        (
            r"^(decoder)\.blocks\.0\.(\d+)\.",
            lambda match: less(match).replace("r.", "r.block_in.", 1),
        ),
        (rf"^decoder\.blocks\.{middle + 1}\.(\d+)\.", r"decoder.block_out.resnets.\1."),
        (r"^decoder\.blocks\.(\d+)\.", lambda match: f"decoder.up_blocks.{int(match[1]) - 1}."),
        (r"^(decoder\.up_blocks\.\d+)\.blocks\.", r"\1.resnets."),
        (r"\.stack\.0\.", ".norm1.norm_layer."),
        (r"\.stack\.2\.", ".conv1.conv."),
        (r"\.stack\.3\.", ".norm2.norm_layer."),
        (r"\.stack\.5\.", ".conv2.conv."),
        (r"\.resnets\.(\d+)\.attn_block\.norm\.", r".norms.\1.norm_layer."),
        (r"\.resnets\.(\d+)\.attn_block\.attn\.qkv\.", r".attentions.\1.to_q_k_v."),
        (r"\.resnets\.(\d+)\.attn_block\.attn\.out\.", r".attentions.\1.to_out.0."),
        (r"\.output_norm\.", ".norm_out.norm_layer."),
        (r"\.output_proj\.", ".proj_out."),
    )


def _name_wan_residual(keys: Collection[str], config: Config) -> Names:
    blocks = config["num_res_blocks"]
    return (
        (r"\.middle\.0\.", ".mid_block.resnets.0."),
        (r"\.middle\.2\.", ".mid_block.resnets.1."),
        (r"\.middle\.1\.", ".mid_block.attentions.0."),
        (r"^conv1\.", "quant_conv."),
        (r"^conv2\.", "post_quant_conv."),
        (r"^(encoder|decoder)\.conv1\.", r"\1.conv_in."),
        (r"\.head\.0\.", ".norm_out."),
        (r"\.head\.2\.", ".conv_out."),
        (
            rf"^encoder\.downsamples\.(\d)\.downsamples\.{blocks}\.",
            r"encoder.down_blocks.\1.downsampler.",
        ),
        (r"^encoder\.downsamples\.(\d)\.downsamples\.", r"encoder.down_blocks.\1.resnets."),
        (
            rf"^decoder\.upsamples\.(\d)\.upsamples\.{blocks + 1}\.",
            r"decoder.up_blocks.\1.upsampler.",
        ),
        (r"^decoder\.upsamples\.(\d)\.upsamples\.", r"decoder.up_blocks.\1.resnets."),
        (r"\.residual\.0\.", ".norm1."),
        (r"\.residual\.2\.", ".conv1."),
        (r"\.residual\.3\.", ".norm2."),
        (r"\.residual\.6\.", ".conv2."),
        (r"\.shortcut\.", ".conv_shortcut."),
    )


def _name_cosmos(keys: Collection[str], config: Config) -> Names:
    return (
        (r"\.down\.", ".down_blocks."),
        (r"(\.up)\.(\d+)\.", r"\1_blocks.\2."),
        (r"(\.up_blocks\.)(\d+)\.", _reverse(keys, r"(\.up)\.(\d+)\.")),
        (r"\.block\.(\d+)\.", r".resnets.\1."),
        (r"\.attn\.(\d+)\.0\.", r".attentions.\1."),
        (r"\.attn\.(\d+)\.1\.", r".temp_attentions.\1."),
        (r"\.downsample\.", ".downsamplers.0."),
        (r"\.upsample\.", ".upsamplers.0."),
        (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
        (r"\.mid\.attn_1\.0\.", ".mid_block.attentions.0."),
        (r"\.mid\.attn_1\.1\.", ".mid_block.temp_attentions.0."),
        (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
        (r"\.(q|k|v)\.conv3d\.", r".to_\1."),
        (r"\.proj_out\.conv3d\.", ".to_out.0."),
        (r"\.0\.conv3d\.", ".conv_s."),
        (r"\.1\.conv3d\.", ".conv_t."),
        (r"\.nin_shortcut\.conv3d\.", ".conv_shortcut."),
        (r"conv3d\.", ""),
    )


LDM = Layout(
    r"^(encoder\.down|decoder\.up)\.\d+\.",
    _name_ldm,
    lead="first_stage_model.",
    # Asymmetric VQGAN's file has convolutions that its forward never uses; training's remains.
    dropped=r"^decoder\.up_layers\.|^loss\.|^model_ema\.",
    linear=r"attentions\.\d+\.(to_[qkv]|to_out\.0)\.weight$",
)
TINY = Layout(
    r"^(encoder|decoder)\.\d+\.",
    _name_tiny,
    parts={"_encoder": "encoder.", "_decoder": "decoder."},
)
LAYOUTS: Mapping[str, tuple[Layout, ...]] = {
    **dict.fromkeys(
        ("AutoencoderKL", "AutoencoderKLFlux2", "AsymmetricAutoencoderKL", "VQModel"), (LDM,)
    ),
    "AutoencoderKLCogVideoX": (replace(LDM, name=_name_causal),),
    "AutoencoderKLTemporalDecoder": (replace(LDM, name=_name_temporal),),
    **dict.fromkeys(("AutoencoderTiny", "AutoencoderTinyFlux2"), (TINY,)),
    "AutoencoderDC": (
        Layout(
            r"^encoder\.project_in\.",
            _name_dc,
            converter="convert_autoencoder_dc_checkpoint_to_diffusers",
        ),
    ),
    "AutoencoderKLLTXVideo": (
        Layout(r"\.res_blocks\.", converter="convert_ltx_vae_checkpoint_to_diffusers", lead="vae."),
    ),
    "AutoencoderKLLTX2Video": (
        Layout(r"\.res_blocks\.", converter="convert_ltx2_vae_to_diffusers", lead="vae."),
    ),
    "AutoencoderKLMochi": (
        Layout(
            r"\.stack\.\d",
            _name_mochi,
            parts={"encoder": "encoder.", "decoder": "decoder."},
        ),
    ),
    "PaellaVQModel": (
        Layout(
            r"^vquantizer\.codebook\.",
            lambda keys, config: ((r"^vquantizer\.codebook\.", "vquantizer.embedding."),),
        ),
    ),
    "AutoencoderKLHunyuanImage": (Layout(r"^encoder\.down\.\d", _name_hunyuan_image),),
    **dict.fromkeys(
        ("AutoencoderKLHunyuanVideo15", "AutoencoderKLHunyuanImageRefiner"),
        (Layout(r"^encoder\.down\.\d", _name_hunyuan_video),),
    ),
    "AutoencoderKLWan": (
        Layout(r"^encoder\.downsamples\.\d+\.downsamples\.", _name_wan_residual),
        Layout(r"^encoder\.downsamples\.", converter="convert_wan_vae_to_diffusers"),
    ),
    "AutoencoderKLCosmos": (
        Layout(
            r"\.conv3d\.",
            _name_cosmos,
            dropped=r"wavelets|_arange|patch_size_buffer"
            r"|^encoder\.down\.1\.downsample\.|^decoder\.up\.2\.upsample\.",
        ),
    ),
}
"""By class of the library, the first that fits; a class without one is published by its authors as
the library has it."""


def convert_official(class_name: str, state: State, config: Config) -> State:
    """Return the state under the library's names; one that has them is returned as it is."""
    layout = next((one for one in LAYOUTS.get(class_name, ()) if one.fits(state)), None)
    return state if layout is None else layout.convert(state, config)
