"""Video autoencoders of the diffusers library, given one frame.

Each of them codes the first frame of a clip by itself (causal convolutions over time), so an image
goes through as a clip of one frame: N×C×1×H×W. Latents are the raw ones of the class; `latents_mean`
and `latents_std` of a config belong to the diffusion model. Wan's and Qwen's decoders clamp to
[-1, 1] themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as functional
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vtbench.tokenizers.diffusers_vae import DiffusersVae, Wiring, halvings, take_latents
from vtbench.tokenizers.layouts import Config


def _encode_frame(model: Any, images: Tensor, seed: int | None) -> Tensor:
    return take_latents(model.encode(images[:, :, None]).latent_dist, seed)[:, :, 0]


class _PoolInFloat(TorchFunctionMode):
    """torch has no mean over volumes of 16-bit floats on the CPU: there it is of float32, rounded."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is functional.avg_pool3d and args[0].device.type == "cpu":
            return func(args[0].float(), *args[1:], **(kwargs or {})).to(args[0].dtype)
        return func(*args, **(kwargs or {}))


def _encode_pooled_frame(model: Any, images: Tensor, seed: int | None) -> Tensor:
    with _PoolInFloat():
        return _encode_frame(model, images, seed)


def _decode_frame(model: Any, latents: Tensor, seed: int) -> Tensor:
    clips: Tensor = model.decode(latents[:, :, None]).sample
    return clips[:, :, 0]


def _encode_opaque_frame(model: Any, images: Tensor, seed: int | None) -> Tensor:
    # The network reads RGBA; a photograph is opaque, as the pipeline makes it by convert("RGBA").
    return _encode_frame(model, torch.cat([images, torch.ones_like(images[:, :1])], dim=1), seed)


def _decode_opaque_frame(model: Any, latents: Tensor, seed: int) -> Tensor:
    return _decode_frame(model, latents, seed)[:, :3]


def _encode_one_by_one(model: Any, images: Tensor, seed: int | None) -> Tensor:
    # The library's attention mask fits a batch of one.
    return torch.cat([_encode_frame(model, image[None], seed) for image in images])


def _decode_one_by_one(model: Any, latents: Tensor, seed: int) -> Tensor:
    return torch.cat([_decode_frame(model, latent[None], seed) for latent in latents])


def _decode_single(model: Any, latents: Tensor, seed: int) -> Tensor:
    # Its frames lie along the batch, and are of one clip unless told otherwise.
    images: Tensor = model.decode(latents, num_frames=1).sample
    return images


def _encode_single(model: Any, images: Tensor, seed: int | None) -> Tensor:
    return take_latents(model.encode(images).latent_dist, seed)


def _decode_mochi(model: Any, latents: Tensor, seed: int) -> Tensor:
    # The official decoder drops what an upsampling puts before the first frame where it stands, so
    # that no later convolution sees it (genmoai/mochi, DepthToSpaceTime); the library at the end.
    decoder = model.decoder
    h, _ = decoder.block_in(decoder.conv_in(latents[:, :, None]))
    for block in decoder.up_blocks:
        h = block(h)[0][:, :, block.temporal_expansion - 1 :]
    h = decoder.nonlinearity(decoder.block_out(h)[0])
    images: Tensor = decoder.proj_out(h[:, :, 0].movedim(1, -1)).movedim(-1, 1)
    return images


def _patched(config: Config) -> int:
    # Wan 2.2 folds 2×2 pixels into channels before its first convolution.
    return int(config["patch_size"] or 1)


WIRINGS: Mapping[str, Wiring] = {
    "AutoencoderKLWan": Wiring(
        _encode_frame,
        _decode_frame,
        lambda config: halvings("dim_mult")(config) * _patched(config),
        size=lambda config: config["z_dim"],
        channels=lambda config: config["in_channels"] // _patched(config) ** 2,
        posterior=True,
        # In config.json of Wan 2.2; the class does not read it.
        inert=frozenset({"clip_output"}),
    ),
    "AutoencoderKLQwenImage": Wiring(
        _encode_frame,
        _decode_frame,
        halvings("dim_mult"),
        size=lambda config: config["z_dim"],
        channels=lambda config: config["input_channels"],
        posterior=True,
    ),
    "AutoencoderKLQwenImage21": Wiring(
        _encode_opaque_frame,
        _decode_opaque_frame,
        halvings("dim_mult"),
        size=lambda config: config["z_dim"],
        planes=4,
        posterior=True,
    ),
    "AutoencoderKLHunyuanVideo": Wiring(
        _encode_frame,
        _decode_frame,
        lambda config: config["spatial_compression_ratio"],
        posterior=True,
    ),
    "AutoencoderKLHunyuanVideo15": Wiring(
        _encode_one_by_one,
        _decode_one_by_one,
        lambda config: config["spatial_compression_ratio"],
        posterior=True,
    ),
    "AutoencoderKLHunyuanImageRefiner": Wiring(
        _encode_frame,
        _decode_frame,
        lambda config: config["spatial_compression_ratio"],
        posterior=True,
    ),
    "AutoencoderKLLTXVideo": Wiring(
        _encode_frame,
        _decode_frame,
        lambda config: config["patch_size"] * 2 ** sum(config["spatio_temporal_scaling"]),
        posterior=True,
    ),
    "AutoencoderKLLTX2Video": Wiring(
        _encode_frame,
        _decode_frame,
        lambda config: (
            config["patch_size"]
            * 2 ** sum(kind != "temporal" for kind in config["downsample_type"])
        ),
        posterior=True,
    ),
    "AutoencoderKLMochi": Wiring(
        _encode_frame,
        _decode_mochi,
        lambda config: math.prod(config["spatial_expansions"]),
        # The encoder's input is pixels and their Fourier features, which the class makes.
        channels=lambda config: config["out_channels"],
        posterior=True,
    ),
    "AutoencoderKLCogVideoX": Wiring(
        _encode_frame, _decode_frame, halvings("block_out_channels"), posterior=True
    ),
    "AutoencoderKLMagvit": Wiring(
        _encode_frame, _decode_frame, halvings("block_out_channels"), posterior=True
    ),
    "AutoencoderKLKVAEVideo": Wiring(
        _encode_frame,
        _decode_frame,
        halvings("ch_mult"),
        size=lambda config: config["z_channels"],
        posterior=True,
    ),
    "AutoencoderKLTemporalDecoder": Wiring(
        _encode_single, _decode_single, halvings("block_out_channels"), posterior=True
    ),
    "AutoencoderKLCosmos": Wiring(
        _encode_pooled_frame,
        _decode_frame,
        lambda config: config["spatial_compression_ratio"],
    ),
}
"""The classes of the library that `DiffusersVideoVae` drives."""


class DiffusersVideoVae(DiffusersVae):
    """One video autoencoder of diffusers on single frames; the arguments are those of `DiffusersVae`."""

    wirings: ClassVar[Mapping[str, Wiring]] = WIRINGS
