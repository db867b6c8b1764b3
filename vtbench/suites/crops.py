"""`--crop`: replaces the crop of a suite."""

from __future__ import annotations

import re
from dataclasses import replace

from vtbench.base.errors import SuiteError
from vtbench.images import CROPS
from vtbench.suites.suite_file import PanelPick, PreprocessFile
from vtbench.suites.suites import Suite


def parse_crop(text: str) -> PreprocessFile:
    """Return what `--crop NAME-SIZE` asks for ("adm-256", "none"). Raises SuiteError."""
    match = re.fullmatch(rf"({'|'.join(CROPS)})(?:-([1-9][0-9]{{0,4}}))?", text)
    size = int(match[2]) if match and match[2] else None
    if match is None or (size is None) != (match[1] == "none"):
        known = ", ".join(name if name == "none" else f"{name}-SIZE" for name in CROPS)
        raise SuiteError(f"--crop {text}: expected one of {known}")
    return PreprocessFile(crop=match[1], size=size)


def change_crop(suite: Suite, crop: PreprocessFile) -> Suite:
    """Return the suite with another crop, its images unpinned: a deviation, which `Request` puts
    into the run's name. The orientation stays the suite's. Raises SuiteError for a suite whose
    manifest has boxes or ground truth at places in the picture, which another crop would lose."""
    own = suite.protocol.preprocess
    if own is not None:
        crop = crop.model_copy(update={"orientation": own.orientation})
        if crop.record() == own.record():
            return suite
    if any(sample.crop is not None or sample.meta for sample in suite.samples):
        raise SuiteError(
            f"--crop: the manifest of {suite.name} fixes what is cut from each picture"
        )
    preprocess = crop.record()
    samples = (
        replace(sample, preprocess=preprocess, sha256=None, width=0, height=0)
        for sample in suite.samples
    )
    panel = tuple(PanelPick(id=pick.id) for pick in suite.protocol.panel)
    protocol = suite.protocol.model_copy(update={"panel": panel})
    return replace(suite, protocol=protocol, samples=tuple(samples))
