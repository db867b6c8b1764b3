"""A run beside the usual two stages: `python benchmarks/two_stages.py`.

The usual way of the field: one script writes reconstructions as PNG files, then a program for each
metric reads both folders again: PSNR, SSIM and MS-SSIM by torchmetrics, LPIPS by its package, features
of both sides by pytorch-fid's network. vtbench's run measures the same in one pass; a second tokenizer
of the same images finds the originals' features in the cache.

With --text the images are the pages of the embedded suite, one at a time, and the metrics those of its
text task: PSNR, SSIM, and RapidOCR's readings of every line of both sides, scored by rapidfuzz. The
usual way has the engine as it comes from its package; the lines are cut out on both sides alike.

Both sides have the same images, tokenizer, batch size and random weights of LPIPS and Inception
(`stand_ins`), each in processes of their own, round after round in turn; interpreters' and libraries'
start-up is left out on both sides. vtbench's warm-up, panel and tables count.

    python benchmarks/two_stages.py --images 64 --rounds 2
    python benchmarks/two_stages.py --text --rounds 2
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import stand_ins
import torch
from pass_efficiency import Clock, call_script, open_images, run_vtbench, write_images
from PIL import Image

from vtbench.suites.batches import load_pixels
from vtbench.suites.suites import Suite, load_suite

STAGES = ("write", "torchmetrics", "lpips", "fid")
TEXT_STAGES = ("write", "torchmetrics", "ocr")


def open_pages() -> Suite:
    """Return the embedded suite's pages of text."""
    suite = load_suite("embedded@2")
    return replace(suite, samples=tuple(s for s in suite.samples if s.task == "text"))


@dataclass(frozen=True)
class Pictures:
    """The images of both sides as PNG files of equal names."""

    originals: Path
    made: Path
    batch: int

    def batches(self) -> Iterator[list[str]]:
        """Yield the files' names, a batch at a time."""
        names = sorted(path.name for path in self.originals.iterdir())
        for start in range(0, len(names), self.batch):
            yield names[start : start + self.batch]

    def pairs(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield both sides' batches, N×3×H×W in 0…255."""
        for names in self.batches():
            yield read(self.originals, names), read(self.made, names)


def read(folder: Path, names: list[str]) -> torch.Tensor:
    """Return pictures of one size, N×3×H×W in 0…255."""
    pictures = []
    for name in names:
        with Image.open(folder / name) as image:
            pictures.append(torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1))
    return torch.stack(pictures).float()


def write_reconstructions(pictures: Pictures, model: str, clock: Clock) -> None:
    """Write each reconstruction as PNG."""
    from vtbench.registry.entries import load_registry
    from vtbench.tokenizers import build_tokenizer

    entry = load_registry()[model]
    tokenizer = build_tokenizer(entry, device="cpu", random_weights="config" in entry.options)
    clock.mark(0)
    for names in pictures.batches():
        images = read(pictures.originals, names) / 255
        decoded = tokenizer.decode(tokenizer.encode(images)).clamp(0, 1)
        pixels = (decoded * 255 + 0.5).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        for name, picture in zip(names, pixels, strict=True):
            Image.fromarray(picture).save(pictures.made / name)


def take_torchmetrics(pictures: Pictures, *, multiscale: bool, clock: Clock) -> None:
    """Take PSNR, SSIM and, where the images are large enough, MS-SSIM; each reads the files again."""
    from torchmetrics.functional import image as metrics

    clock.mark(0)
    for x, y in pictures.pairs():
        for a, b in zip(x, y, strict=True):
            metrics.peak_signal_noise_ratio(b, a, data_range=255.0)
    for x, y in pictures.pairs():
        metrics.structural_similarity_index_measure(y, x, data_range=255.0, reduction="none")
    if multiscale:
        for x, y in pictures.pairs():
            metrics.multiscale_structural_similarity_index_measure(y, x, data_range=255.0)


def take_lpips(pictures: Pictures, clock: Clock) -> None:
    """Take LPIPS by its package."""
    network = stand_ins.open_lpips()
    clock.mark(0)
    for x, y in pictures.pairs():
        network(x / 127.5 - 1, y / 127.5 - 1)


def take_features(pictures: Pictures, weights: Path, clock: Clock) -> None:
    """Take pytorch-fid's features of both sides."""
    network = stand_ins.open_inception(weights)
    clock.mark(0)
    for side in (pictures.originals, pictures.made):
        for names in pictures.batches():
            images = read(side, names) / 255
            resized = torch.nn.functional.interpolate(images, (299, 299), mode="bilinear")
            network(2 * resized - 1)


def read_text(pictures: Pictures, clock: Clock) -> None:
    """Read every line of both sides with RapidOCR, and count characters' edits."""
    import rapidocr
    from rapidfuzz.distance import Levenshtein

    from vtbench.metrics.ocr.reader import crop_line
    from vtbench.weights.metrics import find_metric_weights

    detector, recogniser = find_metric_weights("rapidocr").files
    params = {
        "Global.log_level": "error",
        "Det.model_path": str(detector),
        "Rec.model_path": str(recogniser),
    }
    engine = rapidocr.RapidOCR(params=params)
    pages = {f"{page.id}.png": page.meta["lines"] for page in open_pages().samples}
    clock.mark(0)
    for side in (pictures.originals, pictures.made):
        for [name] in pictures.batches():
            with Image.open(side / name) as image:
                pixels = np.array(image.convert("RGB"))
            for line in pages[name]:
                crop = crop_line(pixels, line["box"])
                said = engine(crop, use_det=False, use_cls=False, use_rec=True).txts
                Levenshtein.distance(line["text"], "".join(said or ()))


def run_stage(options: argparse.Namespace, clock: Clock) -> None:
    """Do one stage of the usual way."""
    pictures = Pictures(
        options.folder / "images", options.folder / "reconstructions", options.batch
    )
    pictures.made.mkdir(exist_ok=True)
    with torch.inference_mode():
        if options.stage == "write":
            write_reconstructions(pictures, options.model, clock)
        elif options.stage == "torchmetrics":
            take_torchmetrics(pictures, multiscale=not options.text, clock=clock)
        elif options.stage == "lpips":
            take_lpips(pictures, clock)
        elif options.stage == "fid":
            take_features(pictures, options.folder, clock)
        else:
            read_text(pictures, clock)
    clock.mark(sum(map(len, pictures.batches())))


def write_originals(options: argparse.Namespace, folder: Path) -> None:
    """Write the images that both ways read, and the networks' weights beside them."""
    (folder / "images").mkdir()
    if options.text:
        for page in open_pages().samples:
            Image.fromarray(load_pixels(page)).save(folder / "images" / f"{page.id}.png")
    else:
        write_images(folder / "images", options.images)
        stand_ins.write_weights(folder)


def compare(options: argparse.Namespace, folder: Path) -> dict[str, list[dict[str, float]]]:
    """Return what each round of each way took, in seconds an image."""
    given = ["--folder", str(folder), "--model", options.model, "--batch", str(options.batch)]
    given += ["--text"] if options.text else []
    ways: dict[str, list[dict[str, float]]] = {"two stages": [], "first": [], "further": []}
    for number in range(options.rounds):
        cache = {"XDG_CACHE_HOME": str(folder / f"cache{number}")}
        total: dict[str, float] = {}
        for stage in TEXT_STAGES if options.text else STAGES:
            report = call_script(__file__, [*given, "--stage", stage], cache)
            total = {key: total.get(key, 0) + value for key, value in report.items()}
        ways["two stages"].append(total)
        for which in ("first", "further"):
            ways[which].append(call_script(__file__, [*given, "--stage", "vtbench"], cache))
    return ways


def main() -> None:
    """Print both ways' seconds an image and their ratios, or be one process of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="taesd")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--text", action="store_true", help="pages and their readings")
    parser.add_argument("--stage", choices=(*STAGES, "ocr", "vtbench"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.text:
        options.batch = 1  # pages have sizes of their own
    if options.stage:
        clock = Clock([])
        if options.stage == "vtbench":
            options.networks = not options.text
            suite = open_pages() if options.text else open_images(options)
            run_vtbench(suite, options, clock, whole=True)
        else:
            run_stage(options, clock)
        print(json.dumps(clock.report()))
        return
    with tempfile.TemporaryDirectory() as place:
        write_originals(options, Path(place))
        ways = compare(options, Path(place))
    best = {
        name: (min(r["wall"] for r in reports), min(r["user"] + r["system"] for r in reports))
        for name, reports in ways.items()
    }
    print("| way | wall (s/image) | processor (s/image) | times as fast, wall | processor |")
    print("|---|---:|---:|---:|---:|")
    for name, (wall, processor) in best.items():
        of_wall, of_processor = (a / b for a, b in zip(best["two stages"], best[name], strict=True))
        print(f"| {name} | {wall:.3f} | {processor:.3f} | {of_wall:.2f} | {of_processor:.2f} |")


if __name__ == "__main__":
    main()
