"""`vtbench check`: right tokenizers pass; wrong ones fail with the clause's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from builders import photo
from torch import Tensor

from vtbench.base.errors import ContractError
from vtbench.base.records import SizePolicy, Spec
from vtbench.tokenizers.base import Code, Tokenizer
from vtbench.tokenizers.contract import check_contract

PICTURES = [photo(seed, 400, 600) for seed in range(4)]
SPEC = Spec(
    name="right", family="test", kind="discrete", quantizer="none", downsample=1, codebook_size=256
)


class Right(Tokenizer):
    """Eight-bit gray as indices."""

    def _encode(self, images: Tensor) -> Code:
        low, high = self.spec.input_range
        gray = (images.mean(dim=1) - low) / (high - low)
        return Code.discrete((gray * 255).round().clamp(0, 255).long(), 256)

    def _decode(self, code: Code) -> Tensor:
        assert isinstance(code.indices, Tensor)
        low, high = self.spec.input_range
        return (code.indices / 255 * (high - low) + low)[:, None].expand(-1, 3, -1, -1)


class WrongKind(Right):
    def _encode(self, images: Tensor) -> Code:
        return Code.continuous(images)


class WrongSize(Right):
    def decode(self, code: Code) -> Tensor:
        return super().decode(code)[..., :-1]


class NotFinite(Right):
    def _decode(self, code: Code) -> Tensor:
        return super()._decode(code) * float("nan")


class WrongOutputRange(Right):
    def _decode(self, code: Code) -> Tensor:
        return super()._decode(code) * 255


class WrongInputRange(Right):
    """A network of [−1, 1] that is declared, and so fed, as one of [0, 1]."""

    def _encode(self, images: Tensor) -> Code:
        return super()._encode((images + 1) / 2)


class Nondeterministic(Right):
    def _decode(self, code: Code) -> Tensor:
        decoded = super()._decode(code)
        return decoded + 0.05 * torch.rand_like(decoded)


class Stateful(Right):
    mean = 0.0

    def _encode(self, images: Tensor) -> Code:
        self.mean = float(images.mean())
        return super()._encode(images)

    def _decode(self, code: Code) -> Tensor:
        return super()._decode(code) + 0.05 * self.mean


class BatchDependent(Right):
    """As a network that was left in training mode: statistics of the batch."""

    def _decode(self, code: Code) -> Tensor:
        decoded = super()._decode(code)
        return decoded + 0.2 * (decoded.mean() - 0.5)


class WrongTokenCount(Right):
    def _encode(self, images: Tensor) -> Code:
        code = super()._encode(images)
        return replace(code, tokens=tuple(t // 2 for t in code.tokens))


class WrongBits(Right):
    def _encode(self, images: Tensor) -> Code:
        code = super()._encode(images)
        return replace(code, bits=tuple(b / 2 for b in code.bits))


class IndexOutOfCodebook(Right):
    def _encode(self, images: Tensor) -> Code:
        code = super()._encode(images)
        assert isinstance(code.indices, Tensor)
        return replace(code, indices=code.indices + 200)

    def _decode(self, code: Code) -> Tensor:
        assert isinstance(code.indices, Tensor)
        return super()._decode(replace(code, indices=code.indices - 200))


class Crashes(Right):
    def _encode(self, images: Tensor) -> Code:
        raise RuntimeError("sides must divide by 32\nand more")


def test_a_right_one_passes_every_clause() -> None:
    assert check_contract(Right(SPEC), PICTURES) == [
        "code",
        "size",
        "values",
        "range",
        "levels",
        "deterministic",
        "stateless",
        "batch-independent",
        "token-count",
    ]


def test_the_range_is_converted_by_the_base_class() -> None:
    check_contract(Right(replace(SPEC, input_range=(-1.0, 1.0))), PICTURES)


def test_a_skipped_clause_is_not_tried_and_not_claimed() -> None:
    passed = check_contract(WrongInputRange(SPEC), PICTURES, skip=("levels",))
    assert "levels" not in passed and len(passed) == 8


@pytest.mark.parametrize(
    ("wrong", "clause"),
    [
        (WrongKind, "code"),
        (WrongSize, "size"),
        (NotFinite, "values"),
        (WrongOutputRange, "range"),
        (WrongInputRange, "levels"),
        (Nondeterministic, "deterministic"),
        (Stateful, "stateless"),
        (BatchDependent, "batch-independent"),
        (WrongTokenCount, "token-count"),
        (WrongBits, "token-count"),
        (IndexOutOfCodebook, "token-count"),
        (Crashes, "code"),
    ],
)
def test_a_wrong_one_fails_by_the_clauses_name(
    wrong: Callable[[Spec], Tokenizer], clause: str
) -> None:
    with pytest.raises(ContractError) as caught:
        check_contract(wrong(SPEC), PICTURES)
    assert caught.value.clause == clause
    assert "\n" not in str(caught.value)


def test_a_code_carries_exactly_one_thing() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        Code((1,), (8.0,))
    with pytest.raises(ValueError, match="exactly one"):
        Code((1,), (8.0,), latents=torch.zeros(1, 1), payload=(b"a",))
    with pytest.raises(ValueError, match="token counts"):
        Code((1, 2), (8.0,), payload=(b"a",))


def test_rates() -> None:
    assert Code.discrete(torch.zeros(2, 4, 4, dtype=torch.int64), 1024).bits == (160.0, 160.0)
    scales = (torch.zeros(1, 1, 1).long(), torch.zeros(1, 2, 2).long())
    assert Code.discrete(scales, 4096).tokens == (5,)
    assert Code.continuous(torch.zeros(1, 4, 8, 8)).bits == (4 * 64 * 16.0,)
    assert Code.continuous(torch.zeros(1, 4, 8, 8)).tokens == (64,)
    assert Code.of_bytes((b"abc", b"")).bits == (24.0, 0.0)


def test_words_of_several_scales_and_of_several_codebooks() -> None:
    scales = (torch.tensor([[[3]], [[5]]]), torch.tensor([[[1, 2], [0, 0]], [[7, 6], [4, 4]]]))
    shared = Code.discrete(scales, 8)
    assert [words.tolist() for words in shared.words(1)] == [[5, 7, 6, 4, 4]]
    product = Code.discrete(torch.tensor([[[[9, 8]], [[0, 1]]]]), (16, 2))  # 1×2×1×2
    assert [words.tolist() for words in product.words(0)] == [[9, 8], [0, 1]]
    assert (product.tokens, product.bits, product.codebooks) == ((2,), (10.0,), (16, 2))
    with pytest.raises(ValueError, match="2 codebooks, but axis 1 is 3"):
        Code.discrete(torch.zeros(1, 3, 4).long(), (16, 2))
    assert Code.of_bytes((b"a",)).words(0) == ()


class Product(Right):
    """Eight-bit gray as two words of four bits."""

    high = 16

    def _encode(self, images: Tensor) -> Code:
        gray = super()._encode(images).indices
        assert isinstance(gray, Tensor)
        words = torch.stack((gray // 16, gray % 16), dim=1)
        return Code.discrete(words, (self.high, 16))

    def _decode(self, code: Code) -> Tensor:
        assert isinstance(code.indices, Tensor)
        gray = code.indices[:, 0] * 16 + code.indices[:, 1]
        return super()._decode(replace(code, indices=gray))


def test_a_token_may_be_a_word_of_each_of_several_codebooks() -> None:
    assert "token-count" in check_contract(Product(SPEC), PICTURES)

    class Narrow(Product):
        high = 8

    with pytest.raises(ContractError, match="the entry declares 256 in all"):
        check_contract(Narrow(SPEC), PICTURES)
    with pytest.raises(ContractError, match=r"index \d+ in a codebook of 8"):
        check_contract(Narrow(replace(SPEC, codebook_size=128)), PICTURES)


def test_latents_in_8_bits() -> None:
    generator = torch.Generator().manual_seed(0)
    latents = (
        torch.randn(2, 4, 9, 7, generator=generator)
        * torch.tensor([1.0, 10, 0.1, 0])[:, None, None]
    )
    code = Code.continuous(latents)
    coarse = code.quantize_8bit()
    assert coarse.latents is not None and coarse.bits == (4 * 63 * 8.0 + 4 * 64,) * 2
    assert coarse.tokens == code.tokens
    low, high = latents.amin((2, 3), keepdim=True), latents.amax((2, 3), keepdim=True)
    # Half a step, and the rounding of float32.
    step = (high - low) / 255
    assert bool(((coarse.latents - latents).abs() <= step * 0.5001 + 1e-6 * high.abs()).all())
    assert bool(torch.isclose(coarse.latents.amax((2, 3), keepdim=True), high).all())
    assert torch.equal(coarse.latents[:, 3], latents[:, 3])  # a channel without a range
    assert coarse.latents[0, 1].unique().numel() <= 256
    # An image does not depend on its batch. The mutant: one range for all, of which a quiet channel
    # gets few levels.
    alone = Code.continuous(latents[1:]).quantize_8bit().latents
    assert alone is not None and torch.equal(alone[0], coarse.latents[1])
    whole = (latents.amax() - latents.amin()) / 255
    mutant = (latents / whole).round() * whole
    assert (mutant - latents)[:, 2].abs().max() > 20 * (coarse.latents - latents)[:, 2].abs().max()
    half = Code.continuous(latents.bfloat16()).quantize_8bit().latents
    assert half is not None and half.dtype == torch.bfloat16  # what the decoder takes
    with pytest.raises(ValueError, match="only latents"):
        Code.of_bytes((b"a",)).quantize_8bit()


def test_only_float_rgb_batches_are_taken() -> None:
    for images in (torch.zeros(3, 8, 8), torch.zeros(1, 1, 8, 8), torch.zeros(1, 3, 8, 8).byte()):
        with pytest.raises(ValueError, match="expected float N×3×H×W"):
            Right(SPEC).encode(images)


def test_a_code_from_elsewhere_is_not_decoded() -> None:
    with pytest.raises(ValueError, match="has no fit"):
        Right(SPEC).decode(Code.discrete(torch.zeros(1, 4, 4).long(), 256))


TILED = replace(
    SPEC, downsample=2, size=SizePolicy(fixed=(64, 48), policy="tile"), input_range=(-1.0, 1.0)
)


class Halved(Right):
    """Gray at half the size, in tiles of one size only; `books` codebooks, `scales` of them."""

    def __init__(self, spec: Spec, *, books: int = 1, scales: int = 1) -> None:
        super().__init__(replace(spec, codebook_size=256**books))
        self.books, self.scales, self.seen = books, scales, set[tuple[int, ...]]()

    def _encode(self, images: Tensor) -> Code:
        self.seen.add(tuple(images.shape[-2:]))
        gray = torch.nn.functional.avg_pool2d(images.mean(dim=1, keepdim=True) / 2 + 0.5, 2)
        indices = (gray * 255).round().clamp(0, 255).long()
        indices = indices.expand(-1, self.books, -1, -1) if self.books > 1 else indices[:, 0]
        scales = (indices,) * self.scales
        return Code.discrete(
            scales if self.scales > 1 else indices, (256,) * self.books if self.books > 1 else 256
        )

    def _decode(self, code: Code) -> Tensor:
        assert code.fit is not None and code.fit.tiles == (1, 1)
        grid = code.indices[-1] if isinstance(code.indices, tuple) else code.indices
        assert isinstance(grid, Tensor)
        gray = (grid[:, -1] if self.books > 1 else grid)[:, None] / 255 * 2 - 1
        return torch.nn.functional.interpolate(gray, scale_factor=2).expand(-1, 3, -1, -1)


class Latents(Halved):
    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.spec = replace(spec, kind="continuous", codebook_size=None, latent_channels=3)

    def _encode(self, images: Tensor) -> Code:
        self.seen.add(tuple(images.shape[-2:]))
        return Code.continuous(torch.nn.functional.avg_pool2d(images, 2))

    def _decode(self, code: Code) -> Tensor:
        assert code.latents is not None and code.latents.ndim == 4
        return torch.nn.functional.interpolate(code.latents, scale_factor=2)


@pytest.mark.parametrize(
    "make",
    [
        Halved,
        Latents,
        lambda spec: Halved(spec, books=3),
        lambda spec: Halved(spec, scales=2),
        lambda spec: Halved(spec, books=3, scales=2),
    ],
    ids=["one codebook", "latents", "three codebooks", "two scales", "both"],
)
def test_tiles_keep_the_contract_and_add_up(make: Callable[[Spec], Halved]) -> None:
    tiled = make(TILED)
    assert len(check_contract(tiled, PICTURES)) == 9
    assert tiled.seen == {(64, 48)}
    images = torch.rand(2, 3, 130, 97, generator=torch.Generator().manual_seed(0))
    code = tiled.encode(images)
    whole = make(replace(TILED, size=SizePolicy(fixed=(192, 144), policy="tile")))
    alone = whole.encode(images)
    assert code.fit is not None and code.fit.tiles == (3, 3) and code.fit.policy == "tile"
    assert code.tokens == alone.tokens and code.bits == alone.bits
    if code.latents is None:
        # The same words in another order, in each codebook.
        for ours, theirs in zip(code.words(1), alone.words(1), strict=True):
            assert torch.equal(ours.sort().values, theirs.sort().values)
            assert not torch.equal(ours, theirs)
    else:
        assert code.quantize_8bit().bits == alone.quantize_8bit().bits
        assert torch.isfinite(tiled.decode(code.quantize_8bit())).all()
    assert torch.equal(tiled.decode(code), whole.decode(alone)), "this one sees no edges of tiles"


class Swapped(Halved):
    """Puts the tiles together in another order."""

    def decode(self, code: Code) -> Tensor:
        assert isinstance(code.indices, Tensor)
        return super().decode(replace(code, indices=code.indices.flip(1)))


def test_tiles_in_another_order_would_be_seen() -> None:
    images = torch.rand(1, 3, 128, 96, generator=torch.Generator().manual_seed(0))
    right, wrong = Halved(TILED), Swapped(TILED)
    assert not torch.equal(right.decode(right.encode(images)), wrong.decode(wrong.encode(images)))
