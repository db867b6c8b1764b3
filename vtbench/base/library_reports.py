"""Libraries that report their use to their makers, told not to."""

from __future__ import annotations

import os

SWITCHES = {
    # onnxruntime 1.29 and newer sends events from Linux and macOS unless this is set before it is
    # imported (its Privacy.md), and leaves a file `.ses` in the folder of temporary files.
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",  # of huggingface_hub: the names of libraries, with a download
}
"""Environment variables that switch reports off, with the value that does so."""


def forbid_reports() -> None:
    """Set the variables for this process and those that it starts, whatever they were.

    It acts on libraries that are imported afterwards, so callers do this before they import one.
    """
    os.environ.update(SWITCHES)
