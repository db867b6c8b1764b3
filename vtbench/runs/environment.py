"""What a run ran on and with: versions, commit, processor. No names of people, hosts or
paths. Imports no torch by itself."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vtbench.base.locations import package_dir

LIBRARIES = ("torch", "torchvision", "numpy", "pillow", "lpips", "rapidocr", "onnxruntime")
"""Packages whose version can change a number of any run; an adapter adds its own."""


def library_versions(names: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Return the installed version of each package; "absent" for one that is not installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def commit() -> tuple[str | None, bool | None]:
    """Return the commit of vtbench's own checkout and whether it has uncommitted changes.

    (None, None) for an installed wheel. The folder asked is the package's, not the user's.
    """
    root = package_dir().parent
    if not (root / ".git").exists():
        return None, None
    try:
        # A package that lies in somebody's repository (a virtual environment in it) is not its code.
        if Path(_git(root, "rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return None, None
        head = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--", "vtbench", "registry", "data")
    except (OSError, subprocess.SubprocessError):
        return None, None
    return head, bool(changed)


def _git(root: Path, *arguments: str) -> str:
    # In a hook git's own variables name the user's project, which -C does not override.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=20, check=True, env=clean
    )
    return done.stdout.strip()


def processor() -> str:
    """Return the CPU's model name, as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cpu_count() -> int:
    """Return the CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_name(device: str) -> str:
    """Return "cpu", or the accelerator's own name."""
    if device.startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name(device))
    return device


def platform_name() -> str:
    """Return system and architecture, without the host's name."""
    return f"{platform.system()} {platform.machine()}"
