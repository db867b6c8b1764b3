"""A tokenizer's networks compiled by torch (`--compile`), and the proof that they compute the same.

What is compiled is each module that the tokenizer calls itself while it encodes and decodes a run's
first batch: an encoder, a decoder, a convolution between them. The batch goes through once before and
once after; where tokens or pixels differ by more than `TOLERANCE`, the tokenizer is refused.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from vtbench.base.errors import CellFailed, VtbenchError, describe_foreign
from vtbench.results.schema import CompilationRecord
from vtbench.runs.fast_form import SAME
from vtbench.suites.batches import Batch
from vtbench.tokenizers.base import Code, Tokenizer
from vtbench.tokenizers.cost import list_networks

TOLERANCE = {torch.float32: 255 * SAME, torch.bfloat16: 1.0, torch.float16: 1.0}
"""How far apart pixels may be, in levels of 8 bits: in float32 every pixel, and no token may change; in
16 bits the root mean square, for a compiled network rounds fewer of its intermediate values."""


def require_compiler(device: str) -> None:
    """Raise VtbenchError where torch.compile has nothing to compile with on this device."""
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    compiler = os.environ.get("CXX") or usual
    if shutil.which(compiler) is None:
        raise VtbenchError(
            f"--compile: no C++ compiler is here ({compiler}): install one, or leave --compile out"
        )
    if device.startswith("cuda") and find_spec("triton") is None:
        raise VtbenchError("--compile: no triton is here: `pip install triton`, or leave it out")


def compile_tokenizer(tokenizer: Tokenizer, batch: Batch) -> CompilationRecord:
    """Compile a tokenizer's networks and return how far the batch's reconstructions moved.

    Args:
        tokenizer: Its modules are compiled in place.
        batch: With pixels.

    Raises:
        CellFailed: It has no network, torch cannot compile it, or tokens or pixels differ by more than
            `TOLERANCE`.
    """
    images = batch.images
    assert images is not None
    called: dict[int, nn.Module] = {}
    try:
        with _watch_calls(tokenizer, called):
            before = _go_through(tokenizer, images)
    except Exception as error:  # of the tokenizer, compiled or not
        raise CellFailed(describe_foreign(error)) from error
    if not called:
        raise CellFailed("--compile: it calls no network of torch")
    begun = time.perf_counter()
    try:
        for module in called.values():
            module.compile()
        after = _go_through(tokenizer, images)
    except Exception as error:
        raise CellFailed(f"--compile: torch cannot compile it: {_say(error)}") from error
    seconds = time.perf_counter() - begun
    return _compare(tokenizer, before, after, modules=len(called), seconds=seconds)


@contextmanager
def uncompiled_after(tokenizer: Tokenizer | None) -> Iterator[None]:
    """After it each module of a tokenizer is called as before, compiled or not; None is none."""
    networks = [] if tokenizer is None else list_networks(tokenizer)
    before = [(m, m._compiled_call_impl) for network in networks for m in network.modules()]
    try:
        yield
    finally:
        for module, call in before:
            module._compiled_call_impl = call


@contextmanager
def _watch_calls(tokenizer: Tokenizer, called: dict[int, nn.Module]) -> Iterator[None]:
    """Within it `called` gains each module that is called while no other one is."""
    modules = {id(m): m for network in list_networks(tokenizer) for m in network.modules()}
    depth = 0

    def enter(module: nn.Module, _: Any) -> None:
        nonlocal depth
        if depth == 0:
            called[id(module)] = module
        depth += 1

    def leave(*_: Any) -> None:
        nonlocal depth
        depth -= 1

    handles = []
    for module in modules.values():
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _go_through(tokenizer: Tokenizer, images: Tensor) -> tuple[Code, Tensor]:
    code = tokenizer.encode(images)
    return code, tokenizer.decode(code).cpu()


def _compare(
    tokenizer: Tokenizer,
    before: tuple[Code, Tensor],
    after: tuple[Code, Tensor],
    *,
    modules: int,
    seconds: float,
) -> CompilationRecord:
    """Return the difference of two reconstructions. Raises CellFailed where it is too large."""
    tokens, changed = _count_changed(before[0], after[0])
    one, other = before[1], after[1]
    if one.shape != other.shape or not torch.isfinite(other).all():
        raise CellFailed("--compile: the compiled network gives another size, NaN or infinity")
    levels = 255 * (one.double() - other.double())
    found = CompilationRecord(
        images=len(one),
        modules=modules,
        most_levels=float(levels.abs().max()),
        rms_levels=float(levels.square().mean().sqrt()),
        tolerance_levels=TOLERANCE[tokenizer.dtype],
        tokens=tokens,
        tokens_changed=changed,
        seconds=round(seconds, 3),
    )
    exact = tokenizer.dtype == torch.float32
    difference = found.most_levels if exact else found.rms_levels
    if difference > found.tolerance_levels or (exact and changed):
        what = "the largest difference" if exact else "the root mean square difference"
        raise CellFailed(
            f"--compile: refused: {what} to the uncompiled network is {difference:.3g} levels of 8 bits"
            f" (at most {found.tolerance_levels:g} allowed), {changed} of {tokens} tokens changed"
        )
    return found


def _count_changed(before: Code, after: Code) -> tuple[int, int]:
    """Return how many discrete tokens there are, and how many differ."""
    one, other = _list_scales(before), _list_scales(after)
    tokens = sum(scale.numel() for scale in one)
    if [scale.shape for scale in one] != [scale.shape for scale in other]:
        return tokens, tokens
    return tokens, sum(int((a != b).sum()) for a, b in zip(one, other, strict=True))


def _list_scales(code: Code) -> tuple[Tensor, ...]:
    """Return a code's indices of each scale; nothing where it has none."""
    if code.indices is None:
        return ()
    return code.indices if isinstance(code.indices, tuple) else (code.indices,)


def _say(error: Exception) -> str:
    """Return the first line of what a compiler says that is more than a name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}".rstrip(": ")
