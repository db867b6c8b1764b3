"""Image autoencoders of the diffusers library, driven as they are.

A class of the library is one row of `WIRINGS`: how it encodes, how it decodes, and what of its config
an entry declares. Latents are the raw ones of the class: the `scaling_factor` and `shift_factor` of a
config belong to the diffusion model, and decode would only undo them. AutoencoderKLFlux2 alone is
taken with its generator's patches and statistics, which are part of the network, and
ConsistencyDecoderVAE alone is sampled here, as its official code does it. All classes but
Paella's take and return images in [-1, 1]; AutoencoderTiny, whose network works in [0, 1], converts
inside (diffusers.models.autoencoders.vae, EncoderTiny and DecoderTiny).

Importing the library costs seconds, so it happens when a model is built.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from vtbench.base.errors import RegistryError, WeightsMismatch, WeightsMissing
from vtbench.base.records import Spec
from vtbench.tokenizers.base import Code, Tokenizer, check_posterior, draw_latents
from vtbench.tokenizers.diffusers_files import find_files, merge_configs, read_files
from vtbench.tokenizers.layouts import Config
from vtbench.weights.states import build_network

CONSISTENCY_STEPS = 2
"""Of the consistency decoder; the library's scheduler refuses any other number."""


@dataclass(frozen=True)
class Wiring:
    """How one class of the library is driven.

    encode(model, images, seed) gives latents N×C×h×w, or int64 indices N×h×w where `discrete`; seed
    is None for a posterior's mode, and given for a sample of it, which only those with `posterior`
    have. decode(model, code, seed) gives images N×3×H×W. factor, size and channels read from the
    class's config what an entry declares: the downsample factor, the latent channels or codebook
    size, the channels of an input image (which must be `planes`). module: where the class is.
    inert: keys of published configs that no version of the class reads.
    """

    encode: Callable[[Any, Tensor, int | None], Tensor]
    decode: Callable[[Any, Tensor, int], Tensor]
    factor: Callable[[Config], int]
    size: Callable[[Config], int] = lambda config: config["latent_channels"]
    channels: Callable[[Config], int] = lambda config: config["in_channels"]
    planes: int = 3
    discrete: bool = False
    posterior: bool = False
    stochastic: bool = False
    input_range: tuple[float, float] = (-1.0, 1.0)
    module: str = "diffusers"
    inert: frozenset[str] = frozenset()


def halvings(key: str) -> Callable[[Config], int]:
    """Return the factor of a network with one width a resolution under `key`: n of them halve the
    sides n − 1 times."""
    return lambda config: int(2 ** (len(config[key]) - 1))


def take_latents(posterior: Any, seed: int | None) -> Tensor:
    """Return a Gaussian posterior's mode, or for a seed one sample of it."""
    mode: Tensor = posterior.mode()
    return mode if seed is None else draw_latents(mode, posterior.std, seed)


def _posterior(model: Any, images: Tensor, seed: int | None) -> Tensor:
    return take_latents(model.encode(images).latent_dist, seed)


def _plain_latent(model: Any, images: Tensor, seed: int | None) -> Tensor:
    latents: Tensor = model.encode(images).latent
    return latents


def _raw_latents(model: Any, images: Tensor, seed: int | None) -> Tensor:
    # AutoencoderTiny.forward also rounds them to bytes; encode and decode, as pipelines call them,
    # do not.
    latents: Tensor = model.encode(images).latents
    return latents


def _decode(model: Any, latents: Tensor, seed: int) -> Tensor:
    images: Tensor = model.decode(latents).sample
    return images


def _patch_statistics(model: Any, latents: Tensor) -> tuple[Tensor, Tensor]:
    mean = model.bn.running_mean.view(1, -1, 1, 1).to(latents)
    variance = model.bn.running_var.view(1, -1, 1, 1) + model.config.batch_norm_eps
    return mean, torch.sqrt(variance).to(latents)


def _normalized_patches(model: Any, images: Tensor, seed: int | None) -> Tensor:
    # What FLUX.2 generates, as its pipeline makes it: 2×2 latents a token, with the statistics of a
    # BatchNorm that the autoencoder's file carries for no other purpose.
    patches = torch.nn.functional.pixel_unshuffle(_posterior(model, images, seed), 2)
    mean, deviation = _patch_statistics(model, patches)
    return (patches - mean) / deviation


def _decode_patches(model: Any, patches: Tensor, seed: int) -> Tensor:
    mean, deviation = _patch_statistics(model, patches)
    latents = torch.nn.functional.pixel_shuffle(patches * deviation + mean, 2)
    return _decode(model, latents, seed)


def _nearest_entries(quantizer: str) -> Callable[[Any, Tensor, int | None], Tensor]:
    def encode(model: Any, images: Tensor, seed: int | None) -> Tensor:
        # One image at a time. In a batch, convolution and distances round differently (3e-7), which
        # is enough to flip an index between two nearly equidistant entries.
        grids = []
        for image in images:
            latents = model.encode(image[None]).latents
            _, _, (_, _, indices) = getattr(model, quantizer)(latents)
            grids.append(indices.reshape(1, *latents.shape[-2:]))
        return torch.cat(grids)

    return encode


def _decode_entries(model: Any, indices: Tensor, seed: int) -> Tensor:
    shape = (*indices.shape, model.quantize.vq_embed_dim)
    # With lookup_from_codebook the library looks the indices up itself; without, it takes vectors.
    if model.config.lookup_from_codebook:
        found = indices.flatten()
    else:
        found = model.quantize.get_codebook_entry(indices.flatten(), shape)
    images: Tensor = model.decode(found, force_not_quantize=True, shape=shape).sample
    return images


def _decode_paella(model: Any, indices: Tensor, seed: int) -> Tensor:
    shape = (*indices.shape, model.vquantizer.vq_embed_dim)
    vectors = model.vquantizer.get_codebook_entry(indices.flatten(), shape)
    images: Tensor = model.decode(vectors, force_not_quantize=True).sample
    return images


def _decode_consistency(model: Any, latents: Tensor, seed: int) -> Tensor:
    # The sampler of openai/consistencydecoder over the library's network and constants. The library's
    # own decode leaves out the official clamp of each step's estimate, which moves the second step
    # wherever the first leaves the range. One generator an image, so that a result does not depend on
    # the batch; on the CPU and in float32, so that it depends neither on device nor dtype.
    generators = [torch.Generator("cpu").manual_seed(seed) for _ in range(len(latents))]
    features = (latents * model.config.scaling_factor - model.means) / model.stds
    factor = halvings("encoder_block_out_channels")(model.config)
    features = torch.nn.functional.interpolate(features, scale_factor=factor)
    shape = (3, *features.shape[-2:])
    scheduler = model.decoder_scheduler
    scheduler.set_timesteps(CONSISTENCY_STEPS)
    images = torch.zeros(len(latents), *shape).to(features)
    for step in scheduler.timesteps.tolist():
        noise = torch.stack([torch.randn(shape, generator=drawn) for drawn in generators])
        noisy = scheduler.sqrt_alphas_cumprod[step] * images
        noisy += scheduler.sqrt_one_minus_alphas_cumprod[step] * noise.to(images)
        # The network gives a variance too, which nothing reads.
        given = torch.cat([scheduler.c_in[step] * noisy, features], dim=1)
        estimate = scheduler.c_out[step] * model.decoder_unet(given, step).sample[:, :3]
        images = (estimate + scheduler.c_skip[step] * noisy).clamp(-1, 1)
    return images


WIRINGS: Mapping[str, Wiring] = {
    "AutoencoderKL": Wiring(_posterior, _decode, halvings("block_out_channels"), posterior=True),
    "AutoencoderKLFlux2": Wiring(
        _normalized_patches,
        _decode_patches,
        lambda config: 2 * halvings("block_out_channels")(config),
        size=lambda config: 4 * config["latent_channels"],
        posterior=True,
    ),
    "AutoencoderDC": Wiring(_plain_latent, _decode, halvings("encoder_block_out_channels")),
    "VQModel": Wiring(
        _nearest_entries("quantize"),
        _decode_entries,
        halvings("block_out_channels"),
        size=lambda config: config["num_vq_embeddings"],
        discrete=True,
    ),
    "PaellaVQModel": Wiring(
        _nearest_entries("vquantizer"),
        _decode_paella,
        lambda config: config["up_down_scale_factor"] * 2 ** (config["levels"] - 1),
        size=lambda config: config["num_vq_embeddings"],
        discrete=True,
        input_range=(0.0, 1.0),
        module="diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model",
    ),
    "AutoencoderTiny": Wiring(_raw_latents, _decode, halvings("encoder_block_out_channels")),
    "AutoencoderTinyFlux2": Wiring(
        _raw_latents,
        _decode,
        halvings("encoder_block_out_channels"),
        module="vtbench.tokenizers.taef2",
    ),
    "AsymmetricAutoencoderKL": Wiring(
        _posterior, _decode, halvings("down_block_out_channels"), posterior=True
    ),
    "ConsistencyDecoderVAE": Wiring(
        _posterior,
        _decode_consistency,
        halvings("encoder_block_out_channels"),
        channels=lambda config: config["encoder_in_channels"],
        posterior=True,
        stochastic=True,
    ),
    "AutoencoderKLHunyuanImage": Wiring(
        _posterior, _decode, halvings("block_out_channels"), posterior=True
    ),
    "AutoencoderKLKVAE": Wiring(
        _posterior,
        _decode,
        halvings("ch_mult"),
        size=lambda config: config["z_channels"],
        posterior=True,
    ),
}
"""The classes of the library that `DiffusersVae` drives."""


class DiffusersVae(Tokenizer):
    """One autoencoder of diffusers.

    Args:
        class_name: A key of `wirings`.
        weights: A folder with config.json and diffusion_pytorch_model.safetensors or .bin. Where
            the entry has the config, also one file of weights, or the authors' own files as
            `layouts` has them. None for random weights.
        config: The class's arguments; they must agree with config.json where there is one.
        wrapper: The key in a pickle under which the state lies ("ema").
        prefix: What its keys start with ("module.").
        posterior: "mode", or "sample" for one seeded draw.
        steps: Of ConsistencyDecoderVAE, and of it alone; 2 is what its scheduler can do.

    Latents are returned in `dtype`, unscaled. Tiling and slicing are off: tiles change the result,
    and their size differs by config.

    Raises RegistryError where the entry contradicts the class, WeightsMissing and WeightsMismatch
    where the weights do.
    """

    wirings: ClassVar[Mapping[str, Wiring]] = WIRINGS

    def __init__(
        self,
        spec: Spec,
        *,
        class_name: str,
        weights: Path | None,
        config: Mapping[str, Any] | None = None,
        posterior: str = "mode",
        wrapper: str | None = None,
        prefix: str = "",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
        steps: int | None = None,
    ) -> None:
        super().__init__(spec, device=device, dtype=dtype, seed=seed)
        self._wiring = check_entry(spec, self.wirings, class_name, posterior=posterior, steps=steps)
        self._sampled = posterior == "sample"
        found, files = (None, {}) if weights is None else find_files(spec.name, class_name, weights)
        network = _library_class(self._wiring, class_name)
        merged = merge_configs(spec.name, network, found, config, inert=self._wiring.inert)
        self.model = self._build(network, merged, files, wrapper=wrapper, prefix=prefix)

    @classmethod
    def libraries(cls, options: Mapping[str, object]) -> dict[str, str]:
        """Return diffusers and its version: the network is the library's."""
        return {"diffusers": version("diffusers")}

    def _build(
        self,
        network: Any,
        config: Config,
        files: Mapping[Path, str],
        *,
        wrapper: str | None,
        prefix: str,
    ) -> Any:
        class_name, name = network.__name__, self.spec.name
        state = None
        try:
            if files:
                state = read_files(class_name, config, files, wrapper=wrapper, prefix=prefix)
            model = build_network(
                lambda: network(**config),
                state,
                device=self.device,
                dtype=self.dtype,
                seed=self.seed,
            )
        except (WeightsMismatch, WeightsMissing) as error:
            raise type(error)(f"{name}: {error}") from None
        except torch.OutOfMemoryError:
            raise
        except (ValueError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            where = f" from {next(iter(files)).parent}" if files else ""
            raise WeightsMismatch(f"{name}: {class_name}{where}: {reason}") from error
        check_config(self.spec, self._wiring, model.config)
        for switch in ("use_tiling", "use_slicing"):
            if hasattr(model, switch):
                setattr(model, switch, False)
        return model

    def _encode(self, images: Tensor) -> Code:
        seed = self.seed if self._sampled else None
        code = self._wiring.encode(self.model, images.to(self.dtype), seed)
        if self.spec.codebook_size is not None:
            return Code.discrete(code, self.spec.codebook_size)
        return Code.continuous(code)

    def _decode(self, code: Code) -> Tensor:
        if isinstance(code.indices, Tensor):
            carried = code.indices.to(self.device)
        elif code.latents is not None:
            carried = code.latents.to(self.device, self.dtype)
        else:
            raise ValueError(f"{self.spec.name} decodes one tensor of indices or of latents")
        return self._wiring.decode(self.model, carried, self.seed)


def check_entry(
    spec: Spec,
    wirings: Mapping[str, Wiring],
    class_name: str,
    *,
    posterior: str = "mode",
    steps: int | None = None,
) -> Wiring:
    """Return the class's wiring. Raises RegistryError for an entry that cannot be meant for it."""
    wiring = wirings.get(class_name) if isinstance(class_name, str) else None
    if wiring is None:
        raise RegistryError(
            f"{spec.name}: options.class_name: {class_name!r} is none of {', '.join(wirings)}"
        )
    check_posterior(spec, posterior, exists=wiring.posterior, stochastic=wiring.stochastic)
    kind = "discrete" if wiring.discrete else "continuous"
    for key, given, needed in (
        ("kind", spec.kind, kind),
        ("input_range", spec.input_range, wiring.input_range),
    ):
        if given != needed:
            raise RegistryError(f"{spec.name}: {key} is {given}, but {class_name} needs {needed}")
    if steps is not None and (not wiring.stochastic or steps != CONSISTENCY_STEPS):
        raise RegistryError(
            f"{spec.name}: options.steps is {steps}; only ConsistencyDecoderVAE takes it, and only "
            f"{CONSISTENCY_STEPS}"
        )
    if spec.downsample is None:
        raise RegistryError(f"{spec.name}: downsample is missing; {class_name} has one")
    # The library rounds other sizes down, or up, or refuses them: the padding is ours (base.py).
    for side in spec.size.fixed or (spec.size.multiple,):
        if side % spec.downsample:
            raise RegistryError(
                f"{spec.name}: size: {side} is no multiple of the downsample factor "
                f"{spec.downsample}"
            )
    return wiring


def _library_class(wiring: Wiring, class_name: str) -> Any:
    try:
        return getattr(importlib.import_module(wiring.module), class_name)
    except (AttributeError, ModuleNotFoundError):
        raise RegistryError(
            f"diffusers {version('diffusers')} has no {class_name}: `pip install -U diffusers`"
        ) from None


def check_config(spec: Spec, wiring: Wiring, config: Config) -> None:
    """Raise WeightsMismatch where the entry declares another shape than the weights have."""
    size = spec.codebook_size if wiring.discrete else spec.latent_channels
    for what, declared, found in (
        ("image channels", wiring.planes, wiring.channels(config)),
        ("downsample factor", spec.downsample, wiring.factor(config)),
        ("codebook size" if wiring.discrete else "latent channels", size, wiring.size(config)),
    ):
        if declared != found:
            raise WeightsMismatch(
                f"{spec.name}: {what}: the entry says {declared}, the weights have {found}"
            )
