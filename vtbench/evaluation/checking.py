"""`vtbench.check`: does a tokenizer keep the encode/decode contract?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vtbench.evaluation.undisturbed import undisturbed
from vtbench.evaluation.wrap import WrappedModel
from vtbench.images import RGB8
from vtbench.suites.batches import load_pixels
from vtbench.suites.suites import load_suite
from vtbench.tokenizers.base import Tokenizer
from vtbench.tokenizers.contract import (
    CHECK_PICTURES,
    ODD_SIZE,
    ODD_SIZES,
    ONCE_CLAUSES,
    ONCE_SIZES,
    SHAPE_CLAUSES,
    SIDE,
    SMALL_SIDE,
    TRAINED_ONLY_CLAUSES,
    check_contract,
)


def load_check_pictures(count: int = len(CHECK_PICTURES)) -> list[RGB8]:
    """Return the first of the embedded photographs that the contract is tried on."""
    samples = {sample.id: sample for sample in load_suite("embedded").samples}
    return [load_pixels(samples[name]) for name in CHECK_PICTURES[:count]]


def check(tokenizer: Tokenizer | Any, *, trained: bool = True, **wrapping: Any) -> tuple[str, ...]:
    """Take photographs through every clause of the contract; return the clauses that held.

    Args:
        tokenizer: a `Tokenizer`, or a model, which `wrap` makes one with the options given here.
        trained: whether its weights are trained. With random weights the clauses "range" and
            "levels" say nothing and are not tried, and images are small.
        wrapping: options of `wrap`.

    Raises:
        ContractError: a clause is broken; `clause` names it and the message says how.
    """
    if not isinstance(tokenizer, Tokenizer):
        from vtbench.evaluation.wrap import wrap

        tokenizer = wrap(tokenizer, **wrapping)
    model = tokenizer.model if isinstance(tokenizer, WrappedModel) else None
    with undisturbed(model):
        return try_contract(tokenizer, load_check_pictures(4 if trained else 2), trained=trained)


def try_contract(
    tokenizer: Tokenizer, pictures: Sequence[RGB8], *, trained: bool
) -> tuple[str, ...]:
    """Return the clauses that held; see `check`."""
    passed = check_contract(
        tokenizer,
        pictures,
        side=_find_side(tokenizer, trained=trained),
        sizes=(ODD_SIZE,) if trained else ODD_SIZES,
        skip=() if trained else TRAINED_ONLY_CLAUSES,
    )
    return tuple(passed)


def try_once(tokenizer: Tokenizer, picture: RGB8) -> tuple[str, ...]:
    """Return which of the clauses held that one pass answers, for a network of full size with random
    weights: a square of its own size and one image of 301×203 go through once. On the meta device
    there are no values, and the clauses are about shapes alone."""
    meta = tokenizer.device.type == "meta"
    passed = check_contract(
        tokenizer,
        [picture],
        side=_find_side(tokenizer, trained=False),
        sizes=ONCE_SIZES,
        only=SHAPE_CLAUSES if meta else ONCE_CLAUSES,
    )
    return tuple(passed)


def _find_side(tokenizer: Tokenizer, *, trained: bool) -> int:
    return SMALL_SIDE if not trained and tokenizer.spec.size.fixed is None else SIDE
