"""Autoencoders of the diffusers library, read from a local folder and driven as they are.

A class of the library is one row of `WIRINGS`: how it encodes, how it decodes, and which keys of its
config hold the facts that an entry declares. Latents are the raw ones of the class: the
`scaling_factor` and `shift_factor` of a config belong to the diffusion model, and decode would only
undo them. All six classes take and return images in [-1, 1]; AutoencoderTiny, whose network works
in [0, 1], converts inside (diffusers.models.autoencoders.vae, EncoderTiny and DecoderTiny).

Importing the library costs seconds, so it happens when a model is built.
"""

from __future__ import annotations

import importlib
import inspect
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vtbench.errors import RegistryError, WeightsMismatch, WeightsMissing
from vtbench.records import Spec
from vtbench.tokenizers.base import Code, Tokenizer

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
PICKLE = "diffusion_pytorch_model.bin"
INPUT_RANGE = (-1.0, 1.0)

CONSISTENCY_STEPS = 2
"""Of the consistency decoder; the library's scheduler refuses any other number."""


SELF_REGISTERED = frozenset({"block_out_channels", "force_upcast"})
"""Keys that constructors of the library write into a config beside their own arguments."""


@dataclass(frozen=True)
class Wiring:
    """How one class of the library is driven.

    encode(model, images) gives latents N×C×h×w, or int64 indices N×h×w where `codebook` is set.
    decode(model, code, seed) gives images N×3×H×W. The rest are keys of the class's config: levels
    lists one width a resolution, and n of them downsample by 2^(n−1); codebook is its size; channels
    is the number of an input image's.
    """

    encode: Callable[[Any, Tensor], Tensor]
    decode: Callable[[Any, Tensor, int], Tensor]
    levels: str
    codebook: str | None = None
    channels: str = "in_channels"
    stochastic: bool = False


def _posterior_mode(model: Any, images: Tensor) -> Tensor:
    # The mode, never a sample: a reconstruction must not depend on a random draw.
    latents: Tensor = model.encode(images).latent_dist.mode()
    return latents


def _plain_latent(model: Any, images: Tensor) -> Tensor:
    latents: Tensor = model.encode(images).latent
    return latents


def _raw_latents(model: Any, images: Tensor) -> Tensor:
    # AutoencoderTiny.forward also rounds them to bytes; encode and decode, as pipelines call them,
    # do not.
    latents: Tensor = model.encode(images).latents
    return latents


def _nearest_entries(model: Any, images: Tensor) -> Tensor:
    # One image at a time. In a batch, convolution and distances round differently (3e-7), which is
    # enough to flip an index between two nearly equidistant entries.
    grids = []
    for image in images:
        latents = model.encode(image[None]).latents
        _, _, (_, _, indices) = model.quantize(latents)
        grids.append(indices.reshape(1, *latents.shape[-2:]))
    return torch.cat(grids)


def _decode(model: Any, latents: Tensor, seed: int) -> Tensor:
    images: Tensor = model.decode(latents).sample
    return images


def _decode_entries(model: Any, indices: Tensor, seed: int) -> Tensor:
    shape = (*indices.shape, model.quantize.vq_embed_dim)
    # With lookup_from_codebook the library looks the indices up itself; without, it takes vectors.
    if model.config.lookup_from_codebook:
        found = indices.flatten()
    else:
        found = model.quantize.get_codebook_entry(indices.flatten(), shape)
    images: Tensor = model.decode(found, force_not_quantize=True, shape=shape).sample
    return images


def _decode_consistency(model: Any, latents: Tensor, seed: int) -> Tensor:
    # One generator an image, so that a result does not depend on the batch; on the CPU, so that it
    # does not depend on the device. The library passes the list on to its scheduler in every step,
    # and applies the scaling factor itself.
    generators = [torch.Generator("cpu").manual_seed(seed) for _ in range(len(latents))]
    images: Tensor = model.decode(
        latents, generator=generators, num_inference_steps=CONSISTENCY_STEPS
    ).sample
    return images


WIRINGS = {
    "AutoencoderKL": Wiring(_posterior_mode, _decode, "block_out_channels"),
    "AutoencoderDC": Wiring(_plain_latent, _decode, "encoder_block_out_channels"),
    "VQModel": Wiring(
        _nearest_entries, _decode_entries, "block_out_channels", codebook="num_vq_embeddings"
    ),
    "AutoencoderTiny": Wiring(_raw_latents, _decode, "encoder_block_out_channels"),
    "AsymmetricAutoencoderKL": Wiring(_posterior_mode, _decode, "down_block_out_channels"),
    "ConsistencyDecoderVAE": Wiring(
        _posterior_mode,
        _decode_consistency,
        "encoder_block_out_channels",
        channels="encoder_in_channels",
        stochastic=True,
    ),
}
"""The classes of the library that `DiffusersVae` drives."""


class DiffusersVae(Tokenizer):
    """One autoencoder of diffusers.

    class_name: a key of `WIRINGS`. weights: a folder with config.json and
    diffusion_pytorch_model.safetensors. steps: of ConsistencyDecoderVAE, and of it alone; 2 is what
    its scheduler can do. Latents are returned in `dtype`, unscaled; of a Gaussian posterior, its
    mode. Tiling and slicing are off: tiles change the result, and their size differs by config.

    Raises RegistryError where the entry contradicts the class, WeightsMissing and WeightsMismatch
    where the folder does.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        class_name: str,
        weights: Path,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
        steps: int | None = None,
    ) -> None:
        super().__init__(spec, device=device, dtype=dtype, seed=seed)
        self._wiring = _check_entry(spec, class_name, steps)
        self.model = load_model(spec, class_name, weights, dtype=dtype).to(self.device)

    @classmethod
    def libraries(cls, options: Mapping[str, object]) -> dict[str, str]:
        """Return diffusers and its version: the network is the library's."""
        return {"diffusers": version("diffusers")}

    def _encode(self, images: Tensor) -> Code:
        code = self._wiring.encode(self.model, images.to(self.dtype))
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


def _check_entry(spec: Spec, class_name: str, steps: int | None) -> Wiring:
    """Return the class's wiring. Raises RegistryError for an entry that cannot be meant for it."""
    wiring = WIRINGS.get(class_name) if isinstance(class_name, str) else None
    if wiring is None:
        raise RegistryError(
            f"{spec.name}: options.class_name: {class_name!r} is none of {', '.join(WIRINGS)}"
        )
    kind = "continuous" if wiring.codebook is None else "discrete"
    for key, given, needed in (
        ("kind", spec.kind, kind),
        ("input_range", spec.input_range, INPUT_RANGE),
        ("stochastic", spec.stochastic, wiring.stochastic),
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


def load_model(spec: Spec, class_name: str, folder: Path, *, dtype: torch.dtype) -> Any:
    """Return the folder's network in eval mode on the CPU, in the dtype, without gradients.

    The library fills a tensor that the file lacks with nothing (it stays on the meta device) and
    drops one that the network lacks, with a log line; here both are WeightsMismatch.
    """
    config = _read_config(spec, class_name, folder)
    _check_header(spec, folder / WEIGHTS)
    network = getattr(importlib.import_module("diffusers"), class_name)
    known = set(inspect.signature(network.__init__).parameters) | SELF_REGISTERED
    if unknown := sorted(key for key in config if key not in known and not key.startswith("_")):
        # The library drops them with a log line, and builds another network than was trained.
        raise WeightsMismatch(
            f"{spec.name}: {folder / CONFIG}: the installed diffusers' {class_name} does not know "
            f"{', '.join(unknown)}; a newer diffusers may"
        )
    default = torch.get_default_dtype()
    try:
        with _silent_loader():
            model, info = network.from_pretrained(
                str(folder),
                torch_dtype=dtype,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        # A config that the class cannot be built from, or a tensor of another shape.
        reason = " ".join(str(error).split())[:200]
        raise WeightsMismatch(f"{spec.name}: {class_name} from {folder}: {reason}") from error
    finally:
        # from_pretrained sets it while it builds, and leaves it set when building fails.
        torch.set_default_dtype(default)
    _check_complete(spec, class_name, model, info)
    _check_config(spec, class_name, model.config)
    for switch in ("use_tiling", "use_slicing"):
        if hasattr(model, switch):
            setattr(model, switch, False)
    return model.eval().requires_grad_(False)


def _read_config(spec: Spec, class_name: str, folder: Path) -> dict[str, Any]:
    """Return the class's config. Raises WeightsMissing or WeightsMismatch unless the folder holds
    its two files, and nothing that the library would take in their place."""
    if not folder.is_dir():
        raise WeightsMismatch(f"{spec.name}: {folder} is not a folder with {CONFIG} and {WEIGHTS}")
    if not (folder / WEIGHTS).is_file() and (folder / PICKLE).is_file():
        convert = (
            f"import torch, safetensors.torch as s; s.save_file(torch.load('{PICKLE}', "
            f"weights_only=True), '{WEIGHTS}')"
        )
        raise WeightsMissing(
            f"{spec.name}: {folder} has only {PICKLE}, a pickle, which is not opened here; convert "
            f'it in a copy of the folder with `python -c "{convert}"` and give '
            f"`--weights {spec.name}=FOLDER`"
        )
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise WeightsMissing(
                f"{spec.name}: {folder} has no {name}: run `vtbench fetch {spec.name}`, or give "
                f"`--weights {spec.name}=FOLDER`"
            )
    if (folder / f"{WEIGHTS}.index.json").exists():
        raise WeightsMismatch(
            f"{spec.name}: {folder} has {WEIGHTS}.index.json: the library would read the files that "
            f"it lists and not {WEIGHTS}; remove one of the two"
        )
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise WeightsMismatch(f"{spec.name}: {folder / CONFIG} is not JSON ({error})") from None
    found = config.get("_class_name") if isinstance(config, dict) else None
    if found != class_name:
        raise WeightsMismatch(
            f"{spec.name}: {folder / CONFIG} is of class {found}, the entry says {class_name}"
        )
    if config.get("quantization_config") is not None:
        raise WeightsMismatch(f"{spec.name}: {folder} holds quantized weights; take the full ones")
    return dict(config)


def _check_header(spec: Spec, path: Path) -> None:
    """Raise WeightsMismatch for a file that is damaged or cut short; reads the header only."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt"):
            pass
    except SafetensorError as error:
        raise WeightsMismatch(
            f"{spec.name}: {path} is damaged or not complete ({error}); fetch it again"
        ) from None


@contextmanager
def _silent_loader() -> Iterator[None]:
    # Both log over many lines what is one line here, and an error: keys that are missing or too
    # many. The second also tells of SELF_REGISTERED at every load.
    loggers = [
        logging.getLogger(f"diffusers.{name}")
        for name in ("models.modeling_utils", "configuration_utils")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _check_complete(spec: Spec, class_name: str, model: Any, info: dict[str, Any]) -> None:
    """Raise WeightsMismatch unless every tensor of the file went into one of the network and none
    of the network is left empty."""
    # The library's lists come out of sets: sorted, so that a message is always the same.
    wrong = {name: sorted(map(str, keys)) for name, keys in info.items() if keys}
    if not wrong:
        tensors = [*model.named_parameters(), *model.named_buffers()]
        wrong = {"empty": empty} if (empty := [key for key, t in tensors if t.is_meta]) else {}
    if wrong:
        told = "; ".join(
            f"{len(keys)} {name.replace('_', ' ')} ({', '.join(keys[:3])}"
            f"{', …' if len(keys) > 3 else ''})"
            for name, keys in wrong.items()
        )
        raise WeightsMismatch(f"{spec.name}: the weights do not fit {class_name}: {told}")


def _check_config(spec: Spec, class_name: str, config: dict[str, Any]) -> None:
    """Raise WeightsMismatch where the entry declares another shape than the weights have."""
    wiring = WIRINGS[class_name]
    facts = [
        ("image channels", 3, config[wiring.channels]),
        ("downsample factor", spec.downsample, 2 ** (len(config[wiring.levels]) - 1)),
    ]
    if wiring.codebook is None:
        facts.append(("latent channels", spec.latent_channels, config["latent_channels"]))
    else:
        facts.append(("codebook size", spec.codebook_size, config[wiring.codebook]))
    for what, declared, found in facts:
        if declared != found:
            raise WeightsMismatch(
                f"{spec.name}: {what}: the entry says {declared}, the weights have {found}"
            )
