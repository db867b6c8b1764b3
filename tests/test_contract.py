"""`vtbench check`: right tokenizers pass; wrong ones fail with the clause's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from mini_suite import photo
from torch import Tensor

from vtbench.errors import ContractError
from vtbench.records import Spec
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


def test_only_float_rgb_batches_are_taken() -> None:
    for images in (torch.zeros(3, 8, 8), torch.zeros(1, 1, 8, 8), torch.zeros(1, 3, 8, 8).byte()):
        with pytest.raises(ValueError, match="expected float N×3×H×W"):
            Right(SPEC).encode(images)


def test_a_code_from_elsewhere_is_not_decoded() -> None:
    with pytest.raises(ValueError, match="has no fit"):
        Right(SPEC).decode(Code.discrete(torch.zeros(1, 4, 4).long(), 256))
