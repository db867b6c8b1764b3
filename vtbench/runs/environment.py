"""What a run ran on and with: versions, commit, code digest, processor. No names of people, hosts or
paths. Imports no torch by itself."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vtbench.base.locations import package_dir

LIBRARIES = ("torch", "torchvision", "numpy", "pillow", "lpips", "rapidocr", "onnxruntime")
"""Packages whose version can change a number of any run; an adapter adds its own."""

_DISPLAY_ONLY = ("leaderboard", "cli.py", "__main__.py")
"""Parts of the package that cannot change a measured number."""


def library_versions(names: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Return the installed version of each package; "absent" for one that is not installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


@functools.cache
def code_sha256() -> str:
    """Return the digest of the package's measuring code: own results of other code are not reused."""
    root = package_dir()
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if relative.parts[0] not in (*_DISPLAY_ONLY, "_share"):
            digest.update(f"{relative.as_posix()}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def commit() -> tuple[str | None, bool | None]:
    """Return the commit of vtbench's own checkout and whether it has uncommitted changes.

    (None, None) for an installed wheel. The folder asked is the package's, not the user's.
    """
    root = package_dir().parent
    if not (root / ".git").exists():
        return None, None
    try:
        head = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--", "vtbench", "registry", "data")
    except (OSError, subprocess.SubprocessError):
        return None, None
    return head, bool(changed)


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
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
