"""`vtbench convert`: a checkpoint that a safe load refuses → safetensors, by way of a process that has
no network (`quarantine`). Imports no torch.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from vtbench.base.errors import OutputError, WeightsError, WeightsMismatch, WeightsMissing
from vtbench.base.files import find_place, sha256_file
from vtbench.base.version import __version__
from vtbench.commands.options import registry_option
from vtbench.registry.entries import Entry
from vtbench.weights.entries import CONVERTED


@dataclass(frozen=True)
class Converted:
    """What was written: tensors, and which of the file's classes and functions were left out."""

    path: Path
    sha256: str
    tensors: int
    left: tuple[str, ...]


def default_target(source: Path) -> Path:
    """Return where a conversion goes that nobody gave a place: beside the checkpoint. Raises
    WeightsMissing for no file."""
    if not source.is_file():
        raise WeightsMissing(f"{source} does not exist or is no file")
    return source.with_suffix(".safetensors")


def convert_checkpoint(entry: Entry, source: Path, target: Path) -> Converted:
    """Write the checkpoint's tensors at the entry's wrapper as safetensors, whole or not at all.

    The keys are the checkpoint's with the wrapper before them, and the metadata say what it was made
    of, so that `--weights NAME=target` reads it as it would the checkpoint. Raises WeightsMissing for
    no file, OutputError for a target that exists or cannot be written, WeightsError for a machine on
    which the process cannot be kept from the network, WeightsMismatch for a file without tensors.
    """
    if not source.is_file():
        raise WeightsMissing(f"{source} does not exist or is no file")
    if target.suffix != ".safetensors":
        raise OutputError(f"{target}: the name of what is written must end in .safetensors")
    if target.exists():
        raise OutputError(f"{target} exists already; name another place with --out")
    wrapper = entry.options.get("wrapper")
    origin = {
        "entry": entry.name,
        "file": source.name,
        "sha256": sha256_file(source),
        "wrapper": wrapper,
        "vtbench": __version__,
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
            written = find_place(Path(folder)) / "state.safetensors"
            done = _extract(
                {
                    "source": str(find_place(source)),
                    "target": str(written),
                    "wrapper": wrapper,
                    # One key: the format's writer puts several in another order each time.
                    "metadata": {CONVERTED: json.dumps(origin, sort_keys=True)},
                },
                folder,
            )
            written.chmod(0o644)
            written.replace(target)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    return Converted(
        target, sha256_file(target), int(done["tensors"]), tuple(map(str, done["left"]))
    )


def _extract(asked: dict[str, object], folder: str) -> dict[str, Any]:
    """Run the process, which starts in the folder, with an environment in which no secret is."""
    kept = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH") if key in os.environ}
    limit = SECONDS + Path(str(asked["source"])).stat().st_size / BYTES_A_SECOND
    try:
        with _sealed():
            ended = _run_quarantine(asked, folder, kept, limit)
    except subprocess.TimeoutExpired:
        raise WeightsError(
            f"{asked['source']}: not read within {limit:.0f} s; no honest checkpoint takes so long"
        ) from None
    try:
        said = json.loads(ended.stdout)
    except json.JSONDecodeError:
        last = (ended.stderr.strip().splitlines() or [""])[-1][:200]
        code = ended.returncode
        why = f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
        raise WeightsError(
            f"{asked['source']}: the process that read it ended by {why} {last}".strip()
        ) from None
    if "error" in said:
        mismatch = said["kind"] == "WeightsMismatch"
        raise (WeightsMismatch if mismatch else WeightsError)(said["error"])
    return dict(said)


SECONDS = 60
BYTES_A_SECOND = 20e6
"""How long the process may take: a slow disk reads and writes a checkpoint faster."""


@contextmanager
def _sealed() -> Iterator[None]:
    """Within it no process without privileges can read or write this one's memory (Linux)."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None:
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    try:
        yield
    finally:
        if libc is not None:
            libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


PR_SET_DUMPABLE = 4


def _run_quarantine(
    asked: dict[str, object], folder: str, kept: dict[str, str], limit: float
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-s", "-m", "vtbench.weights.quarantine", json.dumps(asked)],
        cwd=folder,
        env={**kept, "PYTHONPATH": os.pathsep.join(filter(None, map(os.path.abspath, sys.path)))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=limit,
    )


@click.command("convert")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PATH",
    help="File to write. Default: FILE with the ending .safetensors.",
)
@click.option("--yes", is_flag=True, help="Convert without asking.")
@registry_option
def convert_command(
    name: str, file: Path, out: Path | None, yes: bool, registries: tuple[Path, ...]
) -> None:
    """Convert a checkpoint that a safe load refuses to safetensors.

    FILE is a .pt, .pth, .bin or .ckpt of NAME that holds other objects beside tensors, such as a
    configuration. Such a file is a program. It is not run: what it would import or call is replaced
    by placeholders, in a process without network access that cannot start programs. Where such a
    process is not available, nothing is read. Still, convert only files whose origin you know.

    The default of --out is FILE with the ending .safetensors. Use the result as --weights
    NAME=PATH.
    """
    from vtbench.registry.entries import load_registry

    entry = load_registry(registries)[name]
    if not yes:
        warning = (
            f"{file} may be a program that somebody wrote to do harm. vtbench reads it without running "
            "it, in a process without network; convert only what you know the origin of"
        )
        if not sys.stdin.isatty():
            raise WeightsError(f"{warning}: give --yes")
        click.confirm(f"{warning}. Convert it?", abort=True, err=True)
    done = convert_checkpoint(entry, file, out or default_target(file))
    click.echo(f"{done.path}: {done.tensors} tensors, sha256 {done.sha256}")
    if done.left:
        more = f" and {len(done.left) - 5} more" if len(done.left) > 5 else ""
        click.echo(f"left out, and not called: {', '.join(done.left[:5])}{more}")
    click.echo(f"use it: --weights {name}={done.path}")
