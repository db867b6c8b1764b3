"""How images become reconstructions: through a tokenizer, or read from files that somebody made."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from vtbench.base.errors import CellFailed, ImageError, VtbenchError, describe_foreign
from vtbench.images import MAX_PIXELS, Fit, load_rgb8, to_float
from vtbench.metrics import rate
from vtbench.registry.entries import Entry
from vtbench.results.rows import Row
from vtbench.runs.device_copies import look_up_floats
from vtbench.runs.fast_form import choose_layout
from vtbench.suites.batches import Batch
from vtbench.tokenizers import build_tokenizer
from vtbench.tokenizers.base import Code, Tokenizer
from vtbench.weights.entries import WeightFiles

if TYPE_CHECKING:
    from vtbench.results import schema


@dataclass(frozen=True)
class Reconstruction:
    """A batch after the tokenizer.

    images: float32 N×3×H×W, nominally in [0, 1]. facts: row columns an image (rate, fit, time). fit:
    how the batch was brought to the network's size, None where nobody knows.
    quantized: the reconstructions of 8-bit latents, with their bits.
    """

    images: Tensor
    facts: tuple[Row, ...]
    quantized: tuple[Tensor, tuple[float, ...]] | None = None
    fit: Fit | None = None


class Reconstructor(Protocol):
    """The interface through which the pass gets reconstructions."""

    def warm_up(self, batch: Batch) -> None:
        """Go through a batch once, unmeasured."""

    def reconstruct(self, batch: Batch, *, quantized: bool) -> Reconstruction:
        """Return the batch's reconstructions. quantized: also those of 8-bit latents, if it has
        latents."""


class LiveReconstructor:
    """Encodes and decodes with a tokenizer; counts tokens and takes the time.

    compilation: what changed where its networks were compiled (`runs.compiled_form`).
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.compilation: schema.CompilationRecord | None = None

    def warm_up(self, batch: Batch) -> None:
        """Go through a batch once: the first call pays for allocations and the choice of kernels."""
        self.reconstruct(batch, quantized=False)

    def reconstruct(self, batch: Batch, *, quantized: bool) -> Reconstruction:
        """Return the batch's reconstructions, timed with the device synchronized on both sides."""
        device = self.tokenizer.device
        images = batch.images if batch.there is None else look_up_floats(batch.there.take())
        assert images is not None
        if device.type == "cuda" and batch.there is None:
            with torch.cuda.device(device):  # whose memory is pinned
                images = images.pin_memory().to(device, non_blocking=True)
        _synchronize(device)
        start = time.perf_counter()
        code = self.tokenizer.encode(images)
        _synchronize(device)
        middle = time.perf_counter()
        decoded = self.tokenizer.decode(code)
        _synchronize(device)
        end = time.perf_counter()
        assert code.fit is not None
        same = {
            "fit": code.fit.policy,
            "encode_s": (middle - start) / batch.size,
            "decode_s": (end - middle) / batch.size,
        }
        rates = zip(code.tokens, code.bits, strict=True)
        facts: tuple[Row, ...] = tuple({**same, "tokens": n, "bits": bits} for n, bits in rates)
        if code.codebooks:
            for row, counts in zip(facts, count_tokens(code), strict=True):
                row["codes"] = counts
        coarse = None
        if quantized and self.tokenizer.spec.kind == "continuous":
            rounded = code.quantize_8bit()
            coarse = (self.tokenizer.decode(rounded), rounded.bits)
        return Reconstruction(decoded, facts, coarse, code.fit)


class StoredReconstructor:
    """Reads reconstructions that were made elsewhere.

    Args:
        files: the file of each image's reconstruction, by image id.
        bits: bits of each image's code, by image id; an image without one has no rate.
    """

    def __init__(self, files: Mapping[str, Path], bits: Mapping[str, float]) -> None:
        self.files = files
        self.bits = bits

    def warm_up(self, batch: Batch) -> None:
        """Do nothing: reading is not timed."""

    def reconstruct(self, batch: Batch, *, quantized: bool) -> Reconstruction:
        """Return the stored images. Raises ImageError for one of another size than its original."""
        assert batch.pixels is not None
        height, width = batch.pixels.shape[-2:]
        pictures = []
        for sample in batch.samples:
            picture = load_rgb8(self.files[sample.id], max_pixels=sample.max_pixels or MAX_PIXELS)
            if picture.shape[:2] != (height, width):
                raise ImageError(
                    f"the reconstruction is {picture.shape[1]}×{picture.shape[0]}, the original "
                    f"{width}×{height}"
                )
            pictures.append(picture)
        facts: tuple[Row, ...] = tuple({"bits": self.bits.get(s.id)} for s in batch.samples)
        return Reconstruction(to_float(pictures), facts)


def find_network_device(reconstructor: Reconstructor) -> torch.device:
    """Return where a reconstructor's network takes its images; the CPU where it has none."""
    if isinstance(reconstructor, LiveReconstructor):
        return reconstructor.tokenizer.device
    return torch.device("cpu")


def open_tokenizer(
    entry: Entry, *, device: str, dtype: str, seed: int, found: WeightFiles | None
) -> Tokenizer:
    """Return the entry's tokenizer in the fastest form that gives the same images (`fast_form`).

    Raises CellFailed for whatever a stranger's constructor raises: this tokenizer fails, the others
    go on."""
    try:
        tokenizer = build_tokenizer(entry, device=device, dtype=dtype, seed=seed, weights=found)
    except VtbenchError:
        raise
    except Exception as error:
        raise CellFailed(describe_foreign(error)) from error
    choose_layout(tokenizer)
    return tokenizer


def count_tokens(code: Code) -> list[str]:
    """Return each image's packed histograms of the codebooks that the code has."""
    return [
        rate.pack_histograms(
            [
                rate.count_tokens(words.numpy(), size)
                for words, size in zip(code.words(image), code.codebooks, strict=True)
            ]
        )
        for image in range(len(code.tokens))
    ]


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def open_reconstructor(
    given: Reconstructor | None,
    entry: Entry,
    choices: schema.Protocol,
    *,
    device: str,
    found: WeightFiles | None,
) -> Reconstructor:
    """Return what was given for the entry, or its tokenizer. Raises as `open_tokenizer`."""
    if given is not None:
        return given
    tokenizer = open_tokenizer(
        entry, device=device, dtype=choices.dtype, seed=choices.seed, found=found
    )
    return LiveReconstructor(tokenizer)
