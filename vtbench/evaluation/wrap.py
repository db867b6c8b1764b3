"""`vtbench.wrap`: your own model as a `Tokenizer`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vtbench.base.errors import ContractError, VtbenchError
from vtbench.base.names import check_name
from vtbench.base.records import Kind, SizePolicy, Spec
from vtbench.tokenizers.base import DTYPES, Code, Tokenizer

Bits = float | Callable[[Any], Sequence[float]]
"""Bits of an image's code: one number for all, or a function from what `encode` returned to one each."""


@dataclass(frozen=True)
class MappingCode(Code):
    """A code with the mapping that the model's `encode` returned, which its `decode` gets back.

    Attributes:
        returned: The mapping.
        carried: The indices or latents that the code was made of.
    """

    returned: Mapping[str, Any] = field(default_factory=dict)
    carried: Any = None

    def put_back(self, carried: Any) -> Mapping[str, Any]:
        """Return the mapping with these indices or latents, which may be others than it had (latents
        that were quantized)."""
        if carried is self.carried:
            return self.returned
        key = next(key for key in _MAPPED if key in self.returned)
        return {**self.returned, key: carried}


class WrappedModel(Tokenizer):
    """A model of one's own behind the interface of all tokenizers.

    `decode` gets the tensors that `encode` returned, or the same mapping where it returned one.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        model: nn.Module | None,
        encode: Callable[[Tensor], Any],
        decode: Callable[[Any], Any],
        bits: Bits | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(spec, device=device, dtype=dtype)
        self.model = model
        self._encode_images, self._decode_code = encode, decode
        self._bits = bits

    def _encode(self, images: Tensor) -> Code:
        raw = self._encode_images(images.to(self.dtype))
        code = self._rate(_payload(raw), len(images), raw)
        if not isinstance(raw, dict):
            return code
        own = {f.name: getattr(code, f.name) for f in fields(code)}
        return MappingCode(**own, returned=raw, carried=_carried(code))

    def _rate(self, carried: Any, n: int, raw: Any) -> Code:
        kind = self.spec.kind
        scales = carried if isinstance(carried, tuple) else (carried,)
        if not all(isinstance(scale, Tensor) and len(scale) == n for scale in scales):
            raise ContractError(
                "encode",
                f"expected the indices or latents of {n} images, got {_name(raw)}: return them alone, "
                "or as `latents` or `indices` of an object or mapping",
            )
        whole = all(not s.is_floating_point() and not s.is_complex() for s in scales)
        if whole != (kind == "discrete"):
            said, mend = ("integers", "give") if whole else ("floats", "leave out")
            raise ContractError(
                "encode", f"the codes are {said}, but the tokenizer is {kind}: {mend} codebook_size"
            )
        if kind == "discrete":
            assert self.spec.codebook_size is not None
            indices = tuple(s.long() for s in scales)
            code = Code.discrete(
                indices if isinstance(carried, tuple) else indices[0], self.spec.codebook_size
            )
        else:
            if len(scales) > 1:
                raise ContractError("encode", "several latents: return them as one tensor")
            code = Code.continuous(scales[0])
        if self._bits is None:
            return code
        bits = self._bits(raw) if callable(self._bits) else [self._bits] * n
        return Code(
            code.tokens,
            tuple(map(float, bits)),
            indices=code.indices,
            latents=code.latents,
            codebooks=code.codebooks,
        )

    def _decode(self, code: Code) -> Tensor:
        carried = _carried(code)
        if isinstance(code, MappingCode):
            carried = code.put_back(carried)
        images = self._decode_code(carried)
        images = getattr(images, "sample", images)
        if not isinstance(images, Tensor):
            raise ContractError("decode", f"expected a tensor of images, got {_name(images)}")
        return images.to(torch.float32)


def _carried(code: Code) -> Any:
    return code.latents if code.latents is not None else code.indices


_MAPPED = ("indices", "latents", "latent")
"""What a mapping's code is called, in the order in which it is looked for."""


def _payload(raw: Any) -> Any:
    """Return the tensors of what `encode` returned: a posterior's mode, a field of an output."""
    for name in ("latent_dist", "latents", "latent", "indices"):
        if hasattr(raw, name) and not isinstance(raw, Tensor):
            return _payload(getattr(raw, name))
    if isinstance(raw, dict):
        for key in _MAPPED:
            if key in raw:
                return _payload(raw[key])
    if hasattr(raw, "mode") and not isinstance(raw, Tensor):  # of torch.distributions a property
        return raw.mode() if callable(raw.mode) else raw.mode
    if isinstance(raw, list):
        return tuple(raw)
    return raw


def wrap(
    model: nn.Module | None = None,
    *,
    encode: Callable[[Tensor], Any] | None = None,
    decode: Callable[[Any], Any] | None = None,
    bits: Bits | None = None,
    name: str | None = None,
    kind: Literal["discrete", "continuous"] | None = None,
    codebook_size: int | None = None,
    latent_channels: int | None = None,
    downsample: int | None = None,
    multiple: int | None = None,
    size: tuple[int, int] | None = None,
    input_range: tuple[float, float] = (-1.0, 1.0),
    dtype: str | None = None,
) -> Tokenizer:
    """Return your own model as a `Tokenizer`.

    Args:
        model: The model, with methods `encode` and `decode`. An AutoencoderKL of diffusers works as
            it is. None if both functions are given.
        encode: A function in place of the model's method. It gets images N×3×H×W in `input_range`. It
            returns indices (integers N×…) or latents (floats N×…), a tuple of indices, a posterior
            with `mode()` or `mode`, or an object or mapping with `latents` or `indices`.
        decode: A function in place of the model's method. It gets what `encode` returned, and returns
            images N×3×H×W in `input_range`.
        bits: The bits of an image's code: a number, or a function of what `encode` returned. Default:
            tokens × log2(codebook_size), or values × 16.
        name: The name of the row. Default: the name of the model's class.
        kind: "discrete" or "continuous". Default: discrete if `codebook_size` is given.
        codebook_size: The number of codewords of a discrete code.
        latent_channels: The channels of a continuous code.
        downsample: The factor between the sides of image and code.
        multiple: Both sides of an image are padded to a multiple of this, and cropped back. Default:
            `downsample`.
        size: The only (height, width) that the model takes. Other images are resized to it and back.
        input_range: The (low, high) values of the images that `encode` gets and `decode` returns.
        dtype: The dtype of the images that `encode` gets: fp32, bf16 or fp16. Default: the model's.

    Raises:
        VtbenchError: `encode` or `decode` is missing, or a range, size or name is not valid.
    """
    inner = getattr(model, "module", model) if _is_parallel(model) else model
    encode = encode or getattr(inner, "encode", None)
    decode = decode or getattr(inner, "decode", None)
    if encode is None or decode is None:
        raise VtbenchError(
            f"{type(model).__name__} has no encode and decode: give both as functions of your own"
        )
    low, high = map(float, input_range)
    if not low < high:
        raise VtbenchError(f"input_range {input_range}: expected (low, high) with low < high")
    chosen: Kind = kind or ("discrete" if codebook_size is not None else "continuous")
    if (chosen == "discrete") != (codebook_size is not None):
        raise VtbenchError("codebook_size belongs to a discrete tokenizer, and to it alone")
    parameter = next(inner.parameters(), None) if isinstance(inner, nn.Module) else None
    own = parameter.dtype if parameter is not None else torch.float32
    spec = Spec(
        name=_check(name or _slug(type(model).__name__ if model is not None else "own-model")),
        family="own",
        kind=chosen,
        quantizer="own",
        downsample=downsample,
        codebook_size=codebook_size,
        latent_channels=latent_channels,
        input_range=(low, high),
        size=SizePolicy(multiple or downsample or 1, size, "resize" if size else "pad"),
    )
    return WrappedModel(
        spec,
        model=inner if isinstance(inner, nn.Module) else None,
        encode=encode,
        decode=decode,
        bits=bits,
        device=parameter.device if parameter is not None else torch.device("cpu"),
        dtype=own if dtype is None else DTYPES[dtype],
    )


def _is_parallel(model: object) -> bool:
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    return isinstance(model, parallel)


def _check(name: str) -> str:
    try:
        return check_name(name)
    except ValueError as error:
        raise VtbenchError(f"name {name!r}: {error}") from None


def _slug(name: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
    return re.sub(r"[^a-z0-9.-]+", "-", words).strip("-.") or "own-model"


def _name(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} of {', '.join(map(_name, value)) or 'nothing'}"
    return type(value).__name__
