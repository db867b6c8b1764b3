"""Several processes that measure one run together, as ranks of torch.distributed.

What they say to each other are small Python objects over gloo, whatever devices the networks are on:
rows, features, and pictures of the panel. Images and tensors of the pass stay where they are.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from vtbench.base.errors import CellFailed, VtbenchError, describe_foreign
from vtbench.base.text import show_text

Value = TypeVar("Value")

_PATIENCE = timedelta(days=1)
"""How long a rank waits for the others: rank 0 computes distances of sets alone. One that dies ends its
connections, and the others at once."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that measure a run.

    Args:
        rank: its number.
        world: how many there are.
        group: of torch.distributed, over gloo; None for a process that is alone.
    """

    rank: int = 0
    world: int = 1
    group: Any = None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def gather(self, value: Value) -> list[Value] | None:
        """Return every rank's value by rank on rank 0, None on the others."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] | None = [None] * self.world if self.first else None
        dist.gather_object(value, found, group=self.group, group_dst=0)
        return found

    def share(self, value: Value) -> Value:
        """Return rank 0's value on every rank."""
        if self.world == 1:
            return value
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box, group=self.group, group_src=0)
        return box[0]

    def agree(self, error: Exception | None) -> None:
        """Raise on every rank what any of them met, the lowest rank's first; return where none did."""
        if self.world == 1:
            if error is not None:
                raise error
            return
        found = self.gather(_portable(error))
        first = next((e for e in found if e is not None), None) if found is not None else None
        if (met := self.share(first)) is not None:
            raise met

    @contextmanager
    def united(self) -> Iterator[None]:
        """Within it what one rank meets is met by all at its end, so that none waits for another that
        has stopped. What only rank 0 does stands in it too: the others wait."""
        error = None
        try:
            yield
        except Exception as met:
            error = met
        self.agree(error)

    def require_equal(self, what: str, value: object) -> None:
        """Raise VtbenchError on every rank unless all have rank 0's value."""
        if value != self.share(value):
            error = VtbenchError(
                f"rank {self.rank}: {what} differs from rank 0's: ranks need the same versions, "
                "device, threads, weights and data"
            )
        else:
            error = None
        self.agree(error)


ALONE = Ranks()


def _portable(error: Exception | None) -> Exception | None:
    """Return an error that can be sent to another process: its own, or one that says as much."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # a stranger's class may refuse in any way
        return CellFailed(describe_foreign(error)) if error is not None else None
    return error


def world_size() -> int:
    """Return how many processes torchrun started, 1 without it. Imports no torch."""
    if "RANK" not in os.environ:
        return 1
    world = _read_number("WORLD_SIZE", default="1", least=1, most=MAX_WORLD)
    _read_number("RANK", default="", least=0, most=world - 1)
    return world


MAX_WORLD = 2**16
"""The most processes of a run."""


def _read_number(name: str, *, default: str, least: int, most: int) -> int:
    """Return a variable that torchrun sets. Raises VtbenchError for another value."""
    value = os.environ.get(name, default)
    if not value.isdecimal() or len(value) > 9 or not least <= int(value) <= most:
        wanted = f"expected a number from {least} to {most}, as torchrun sets it"
        raise VtbenchError(f"{name}={show_text(value)[:80]}: {wanted}")
    return int(value)


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """Within it this process is a rank of those that torchrun started, or alone without torchrun."""
    if world_size() == 1:
        yield ALONE
        return
    import torch.distributed as dist

    try:
        dist.init_process_group("gloo", timeout=_PATIENCE)
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        raise VtbenchError(f"the ranks do not find each other: {describe_foreign(error)}") from None
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), dist.group.WORLD)
    finally:
        dist.destroy_process_group()


def ranks_of_training() -> Ranks:
    """Return the ranks of a training that has its process group, each of which calls this.

    Raises VtbenchError where there is no process group."""
    import torch.distributed as dist

    if not dist.is_available() or not dist.is_initialized():
        raise VtbenchError(
            "distributed=True: there is no process group; call torch.distributed.init_process_group, "
            "or leave it out"
        )
    if dist.get_world_size() == 1:
        return ALONE
    group = dist.new_group(backend="gloo", timeout=_PATIENCE)
    return Ranks(dist.get_rank(), dist.get_world_size(), group)


def name_device(device: str) -> str:
    """Return the device of this rank: of several processes on a machine each takes the GPU of its
    number, where the device was not given by number."""
    if world_size() == 1 or device not in ("auto", "cuda"):
        return device
    import torch

    if not torch.cuda.is_available():
        return device
    local = _read_number("LOCAL_RANK", default="0", least=0, most=MAX_WORLD)
    return f"cuda:{local % torch.cuda.device_count()}"
