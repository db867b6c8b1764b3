"""The encode/decode contract, checked on real pictures: `vtbench check NAME`.

Each clause is a function that raises ContractError with the clause's name. A network with untrained
weights fails `levels`, as it should.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vtbench.base.errors import ContractError
from vtbench.images import RGB8, to_float
from vtbench.tokenizers.base import Code, Tokenizer

CHECK_PICTURES = (
    "photo-hubble-deep-field-whole",
    "photo-retina-whole",
    "photo-rocket-whole",
    "photo-coffee-whole",
)
"""Embedded photographs of at least the odd size, for the command line."""

ODD_SIZE = (333, 517)
"""Height and width that no usual downsampling factor divides."""

SIDE = 256
"""Of the squares."""

SMALL_SIDE, ODD_SIZES = 64, ((256, 384), (301, 203))
"""Sizes for --random-weights: smaller squares (image content does not matter) and two odd sizes, because
full-size networks are slow on a laptop."""

LEVELS = (0.25, 0.5, 0.75)
LEVEL_TOLERANCE = 0.1
"""A flat gray field comes back this close in the mean. A network that is fed [0, 1] where it was
trained on [-1, 1] returns 0.25 as about 0.6."""

ONCE_SIZES = ((301, 203),)
"""Sizes that one picture is coded in once, beside a square of the tokenizer's own size."""

ONCE_CLAUSES = ("code", "size", "values", "token-count")
"""The clauses that one pass answers: the others code the same image again, or are about training."""

SHAPE_CLAUSES = ("code", "size")
"""The clauses that tensors without values answer, on torch's meta device."""

RANGE_SLACK, RANGE_SHARE = 0.25, 0.01
"""At most this share of values may leave [0, 1] by more than the slack: ringing does, a wrong output
range does massively."""

TRAINED_ONLY_CLAUSES = ("range", "levels")
"""The clauses that hold for trained weights alone. The output of random weights has any scale (Cosmos'
reaches from -2.3 to 3.2)."""

REPEAT_TOLERANCE = 1e-5
BATCH_TOLERANCE = {torch.float32: 0.25 / 255, torch.bfloat16: 4 / 255, torch.float16: 0.5 / 255}
"""Largest mean difference between an image reconstructed alone and in a batch: kernels may sum in
another order, which reduced precision amplifies; statistics of the batch would change far more. In
bfloat16 it was TiTok-L with random weights that needed more than two levels."""


@dataclass(frozen=True)
class Trial:
    """A tokenizer and the pictures that it is tried on; what several clauses look at is computed once.

    squares: N×3×S×S, N ≥ 2 for the clauses of batches. others: 1×3×H×W each. slivers: whether images
    of one pixel and of seven rows are tried as well.
    """

    tokenizer: Tokenizer
    squares: Tensor
    others: tuple[Tensor, ...]
    slivers: bool = True

    @functools.cached_property
    def code(self) -> Code:
        """The code of the squares."""
        return self.tokenizer.encode(self.squares)

    @functools.cached_property
    def decoded(self) -> Tensor:
        """The reconstruction of the squares."""
        return self.tokenizer.decode(self.code)

    @functools.cached_property
    def other_codes(self) -> tuple[Code, ...]:
        """The codes of the others."""
        return tuple(self.tokenizer.encode(images) for images in self.others)

    @functools.cached_property
    def first_code(self) -> Code:
        """The code of the first square alone."""
        return self.tokenizer.encode(self.squares[:1])

    @functools.cached_property
    def first(self) -> Tensor:
        """The reconstruction of the first square alone."""
        return self.tokenizer.decode(self.first_code)


def check_contract(
    tokenizer: Tokenizer,
    pictures: Sequence[RGB8],
    *,
    side: int = SIDE,
    sizes: Sequence[tuple[int, int]] = (ODD_SIZE,),
    skip: Sequence[str] = (),
    only: Sequence[str] | None = None,
) -> list[str]:
    """Return the names of the clauses that hold, in order, for two pictures or more of side×side and
    one of each of `sizes` (height, width), cut from the middle.

    skip: names of clauses that make no sense for this tokenizer, and are not tried. only: the names
    of those that are, none of which takes an image through twice; one picture is enough then.
    Raises ContractError for the first clause that does not, or that the tokenizer breaks down in.
    """
    squares = to_float([_center(picture, side, side) for picture in pictures])
    others = [to_float([_center(pictures[0], *size)]).to(tokenizer.device) for size in sizes]
    trial = Trial(tokenizer, squares.to(tokenizer.device), tuple(others), slivers=only is None)
    passed = []
    for clause in CLAUSES:
        name = clause.__name__.removeprefix("_").replace("_", "-")
        if name in skip or (only is not None and name not in only):
            continue
        try:
            clause(trial)
        except ContractError:
            raise
        except Exception as error:
            # Whatever a stranger's network raises is a broken clause, reported by its name.
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            raise ContractError(name, reason) from error
        passed.append(name)
    return passed


def _center(picture: RGB8, height: int, width: int) -> RGB8:
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    if top < 0 or left < 0:
        raise ValueError(f"the check needs pictures of at least {width}×{height}")
    return picture[top : top + height, left : left + width]


def _code(trial: Trial) -> None:
    code, kind = trial.code, trial.tokenizer.spec.kind
    kinds = {"codec": code.payload, "discrete": code.indices, "continuous": code.latents}
    kinds["pixels"] = code.latents
    if kinds[kind] is None:
        raise ContractError("code", f"a {kind} tokenizer returned another kind")
    if len(code.tokens) != len(trial.squares):
        n = len(trial.squares)
        raise ContractError("code", f"{n} images went in, {len(code.tokens)} codes out")


def _size(trial: Trial) -> None:
    tokenizer = trial.tokenizer
    pairs = [(trial.squares, trial.decoded)]
    pairs += [
        (images, tokenizer.decode(code))
        for images, code in zip(trial.others, trial.other_codes, strict=True)
    ]
    slivers = (trial.squares[:1, :, :1, :1], trial.squares[:1, :, :7, :]) if trial.slivers else ()
    for images in slivers:
        pairs.append((images, tokenizer.decode(tokenizer.encode(images))))
    for images, decoded in pairs:
        if decoded.shape != images.shape:
            shapes = f"{tuple(images.shape)} went in, {tuple(decoded.shape)} came back"
            raise ContractError("size", shapes)


def _values(trial: Trial) -> None:
    if trial.decoded.dtype != torch.float32:
        raise ContractError("values", f"decode returned {trial.decoded.dtype}, not float32")
    if not torch.isfinite(trial.decoded).all():
        raise ContractError("values", "decode returned NaN or infinite values")


def _range(trial: Trial) -> None:
    decoded = trial.decoded
    outside = (decoded < -RANGE_SLACK) | (decoded > 1 + RANGE_SLACK)
    if (share := float(outside.float().mean())) > RANGE_SHARE:
        low, high = float(decoded.min()), float(decoded.max())
        raise ContractError(
            "range", f"{share:.0%} of the values are far outside [0, 1] ({low:.2f} to {high:.2f})"
        )


def _levels(trial: Trial) -> None:
    flat = torch.stack([torch.full_like(trial.squares[0], level) for level in LEVELS])
    means = trial.tokenizer.decode(trial.tokenizer.encode(flat)).mean(dim=(1, 2, 3))
    for level, mean in zip(LEVELS, means.tolist(), strict=True):
        if abs(mean - level) > LEVEL_TOLERANCE:
            raise ContractError(
                "levels",
                f"gray {level} comes back as {mean:.2f}: wrong input or output range, or untrained",
            )


def _deterministic(trial: Trial) -> None:
    first = trial.first
    again = trial.tokenizer.decode(trial.tokenizer.encode(trial.squares[:1]))
    if (gap := float((first - again).abs().max())) > REPEAT_TOLERANCE:
        raise ContractError("deterministic", f"the same image again differs by up to {gap:.3g}")


def _stateless(trial: Trial) -> None:
    expected = trial.first
    trial.tokenizer.encode(trial.squares[1:2])
    again = trial.tokenizer.decode(trial.first_code)
    if (gap := float((again - expected).abs().max())) > REPEAT_TOLERANCE:
        detail = (
            f"decode depends on what was encoded last (by up to {gap:.3g}), not on the code alone"
        )
        raise ContractError("stateless", detail)


def _batch_independent(trial: Trial) -> None:
    tokenizer, squares = trial.tokenizer, trial.squares
    for index in range(len(squares)):
        one = squares[index : index + 1]
        alone = trial.first if index == 0 else tokenizer.decode(tokenizer.encode(one))
        gap = float((alone[0].clamp(0, 1) - trial.decoded[index].clamp(0, 1)).abs().mean())
        if gap > BATCH_TOLERANCE[tokenizer.dtype]:
            raise ContractError(
                "batch-independent",
                f"image {index} alone differs from itself in a batch by {gap * 255:.2f} levels",
            )


def _token_count(trial: Trial) -> None:
    for images, code in (
        (trial.squares, trial.code),
        *zip(trial.others, trial.other_codes, strict=True),
    ):
        _check_rate(trial.tokenizer, code, len(images))


def _check_rate(tokenizer: Tokenizer, code: Code, n: int) -> None:
    spec = tokenizer.spec
    counted, bits = _count(tokenizer, code, n)
    if list(code.tokens) != counted:
        raise ContractError(
            "token-count", f"declares {code.tokens[0]} tokens, carries {counted[0]}"
        )
    if any(abs(a - b) > 1e-6 * b for a, b in zip(code.bits, bits, strict=True)):
        raise ContractError("token-count", f"declares {code.bits[0]} bits, carries {bits[0]}")
    if spec.downsample is not None and not isinstance(code.indices, tuple):
        assert code.fit is not None
        rows, columns = code.fit.tiles
        height = rows * -(-code.fit.fitted[0] // rows // spec.downsample)
        width = columns * -(-code.fit.fitted[1] // columns // spec.downsample)
        if code.tokens[0] != height * width:
            raise ContractError(
                "token-count",
                f"{code.tokens[0]} tokens, but a factor of {spec.downsample} makes {height}×{width}",
            )


def _count(tokenizer: Tokenizer, code: Code, n: int) -> tuple[list[int], list[float]]:
    """Return tokens and bits per image, counted from what the code carries."""
    spec = tokenizer.spec
    if code.payload is not None:
        sizes = [len(data) for data in code.payload]
        return sizes, [8.0 * size for size in sizes]
    if code.indices is not None:
        scales = code.indices if isinstance(code.indices, tuple) else (code.indices,)
        books = code.codebooks
        if not books or math.prod(books) != spec.codebook_size:
            detail = f"codebooks of {books} words, the entry declares {spec.codebook_size} in all"
            raise ContractError("token-count", detail)
        if any(scale.dtype != torch.int64 or int(scale.min()) < 0 for scale in scales):
            raise ContractError("token-count", "indices must be int64 and not negative")
        for image in range(n):
            for words, size in zip(code.words(image), books, strict=True):
                if int(words.max()) >= size:
                    detail = f"index {int(words.max())} in a codebook of {size}"
                    raise ContractError("token-count", detail)
        tokens = sum(scale[0].numel() for scale in scales) // len(books)
        return [tokens] * n, [tokens * math.fsum(map(math.log2, books))] * n
    assert code.latents is not None
    values, channels = code.latents[0].numel(), code.latents.shape[1]
    if spec.kind == "continuous" and channels != spec.latent_channels:
        detail = f"latents have {channels} channels, the entry declares {spec.latent_channels}"
        raise ContractError("token-count", detail)
    # The adapter declares the bits of a value: 16 (nominal) or 8 (pixels). No others are defined.
    per_value = code.bits[0] / values
    if per_value not in (8.0, 16.0):
        raise ContractError("token-count", f"{per_value} bits a value; 8 and 16 are defined")
    return [values // channels] * n, [values * per_value] * n


Clause = Callable[[Trial], None]
CLAUSES: tuple[Clause, ...] = (
    _code,
    _size,
    _values,
    _range,
    _levels,
    _deterministic,
    _stateless,
    _batch_independent,
    _token_count,
)
