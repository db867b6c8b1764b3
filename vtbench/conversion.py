"""`vtbench convert`: a checkpoint that a safe load refuses → safetensors, by way of a process that has
no network (`quarantine`). Imports no torch.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vtbench
from vtbench.errors import OutputError, WeightsError, WeightsMismatch, WeightsMissing
from vtbench.files import sha256_file
from vtbench.registry import Entry
from vtbench.weights import CONVERTED


@dataclass(frozen=True)
class Converted:
    """What was written: tensors, and which of the file's classes and functions were left out."""

    path: Path
    sha256: str
    tensors: int
    left: tuple[str, ...]


def default_target(source: Path) -> Path:
    """Return where a conversion goes that nobody gave a place: beside the checkpoint."""
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
        "vtbench": vtbench.__version__,
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
            written = Path(folder).resolve() / "state.safetensors"
            done = _extract(
                {
                    "source": str(source.resolve()),
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
    ended = subprocess.run(
        [sys.executable, "-P", "-s", "-m", "vtbench.quarantine", json.dumps(asked)],
        cwd=folder,
        env={**kept, "PYTHONPATH": os.pathsep.join(filter(None, map(os.path.abspath, sys.path)))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
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
