"""`vtbench doctor --self-test`: measures four images and compares them with published rows."""

from __future__ import annotations

from dataclasses import dataclass

from vtbench.base.errors import DataMissing, VtbenchError, describe_foreign
from vtbench.base.locations import published_dir
from vtbench.base.text_table import format_table

SUITE = "embedded"
TOKENIZERS = ("jpeg-q50", "patch-vq-f8", "ref-kl-f8")
"""Cheap rows of three kinds: a codec's library, nearest codewords, convolutions."""

IMAGES = 4

TOLERANCES = {"psnr_db": 0.05, "ssim": 0.001}
"""Another processor's products differ in their last bits. That moves single pixels by a level, and now
and then a patch to another codeword of nearly the same distance: hundredths of a dB over an image."""


@dataclass(frozen=True)
class Compared:
    """One number of one image, as published and as measured here; fault: why there is none."""

    tokenizer: str
    image: str
    metric: str
    published: float | None
    measured: float | None
    fault: str | None = None

    @property
    def agrees(self) -> bool:
        """Whether the two are equal within the tolerance."""
        if self.fault is not None or self.published is None or self.measured is None:
            return False
        return abs(self.published - self.measured) <= TOLERANCES[self.metric]


def measure_again(*, device: str = "cpu") -> list[Compared]:
    """Return published and measured numbers of a few images through a few tokenizers.

    Raises:
        DataMissing: the published results are not in this installation.
    """
    found = []
    for name in TOKENIZERS:
        try:
            found += _measure_tokenizer(name, device)
        except VtbenchError as error:
            found.append(Compared(name, "-", "psnr_db", None, None, str(error)))
        except Exception as error:  # libraries raise anything on a machine that is not well
            found.append(Compared(name, "-", "psnr_db", None, None, describe_foreign(error)))
    return found


def _measure_tokenizer(name: str, device: str) -> list[Compared]:
    import torch

    from vtbench.evaluation.catalogue import load
    from vtbench.images import to_float, to_uint8
    from vtbench.metrics.functional import psnr_db, ssim
    from vtbench.results.folder import read_run
    from vtbench.suites.batches import load_pixels
    from vtbench.suites.suites import load_suite

    folder = published_dir(SUITE) / name
    if not folder.is_dir():
        raise DataMissing(f"no published results of {name} in this installation")
    rows = {row["id"]: row for row in read_run(folder).rows}
    samples = [s for s in load_suite(SUITE).samples if s.subset == "crop256"][:IMAGES]
    tokenizer = load(name, device=device)
    functions = {"psnr_db": psnr_db, "ssim": ssim}
    found = []
    for sample in samples:
        original = to_float([load_pixels(sample)], device)
        with torch.inference_mode():
            image = to_uint8(tokenizer.decode(tokenizer.encode(original)))
        for key, measure in functions.items():
            value = float(measure(to_uint8(original), image)[0])
            found.append(Compared(name, sample.id, key, rows[sample.id][key], value))
    return found


def report(compared: list[Compared]) -> str:
    """Return a table of the largest difference of each tokenizer and metric, and a verdict."""
    rows = [("tokenizer", "metric", "images", "largest difference", "allowed", "")]
    for name in TOKENIZERS:
        own = [each for each in compared if each.tokenizer == name]
        for fault in (each.fault for each in own if each.fault is not None):
            rows.append((name, "-", "0", "-", "-", fault))
        for metric, allowed in TOLERANCES.items():
            numbers = [e for e in own if e.metric == metric and e.fault is None]
            if not numbers:
                continue
            gaps = [abs((e.published or 0.0) - (e.measured or 0.0)) for e in numbers]
            verdict = "agrees" if all(e.agrees for e in numbers) else "DIFFERS"
            rows.append((name, metric, str(len(gaps)), f"{max(gaps):.6f}", f"{allowed:g}", verdict))
    if all(each.agrees for each in compared):
        return f"{format_table(rows)}\nThis machine measures what was published."
    return (
        f"{format_table(rows)}\nThis machine does not measure what was published: compare the versions "
        "that `vtbench doctor` prints before you trust a number from it."
    )
