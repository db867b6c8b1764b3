"""`vtbench.check`: does a tokenizer keep the encode/decode contract?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vtbench.base.errors import ContractError
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
    """Check the encode/decode contract on photographs; return the names of the clauses, which all hold.

    Args:
        tokenizer: A `Tokenizer`, or a model, to which `wrap` is applied.
        trained: Whether its weights are trained. With random weights the clauses "range" and
            "levels" mean nothing and are left out, and the images are smaller.
        **wrapping: Options of `wrap` for a model.

    Raises:
        ContractError: A clause is broken. `clause` names it, and the message says how.
    """
    if not isinstance(tokenizer, Tokenizer):
        from vtbench.evaluation.wrap import wrap

        tokenizer = wrap(tokenizer, **wrapping)
    model = tokenizer.model if isinstance(tokenizer, WrappedModel) else None
    with undisturbed(model):
        try:
            return try_contract(
                tokenizer, load_check_pictures(4 if trained else 2), trained=trained
            )
        except ContractError as error:
            size = tokenizer.spec.size
            if (
                model is None
                or error.clause != "size"
                or size.multiple > 1
                or size.fixed is not None
            ):
                raise
            hint = "give downsample= or multiple=, if the model does not take images of every size"
            raise ContractError(
                error.clause, f"{str(error).removeprefix('size: ')}; {hint}"
            ) from error


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
    """Check a full-size network with random weights on one pass; return the names of the clauses.

    The pass has a square image of the network's own size and one of 301×203. Clauses that need a
    second pass are left out. On the meta device there are no values: only clauses of shapes are checked.
    """
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
