"""A run beside the usual two stages: `python benchmarks/two_stages.py`.

The usual way of the field: one script writes reconstructions as PNG files, then a program for each
metric reads both folders again: PSNR, SSIM and MS-SSIM by torchmetrics, LPIPS by its package, features
of both sides by pytorch-fid's network. vtbench's run measures the same in one pass; a second tokenizer
of the same images finds the originals' features in the cache.

Both sides have the same images, tokenizer, batch size and random weights of LPIPS and Inception
(`stand_ins`), each in processes of their own, round after round in turn; interpreters' and libraries'
start-up is left out on both sides. Text is not among it.

    python benchmarks/two_stages.py --images 32 --rounds 3
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from pass_efficiency import Clock, call_script, run_vtbench, write_images

STAGES = ("write", "torchmetrics", "lpips", "fid")


def run_stage(options: argparse.Namespace, clock: Clock) -> None:
    """Do one stage of the usual way."""
    import numpy as np
    import stand_ins
    import torch
    from PIL import Image

    originals = sorted((options.folder / "images").iterdir())
    out = options.folder / "reconstructions"
    out.mkdir(exist_ok=True)

    def read(path: Path) -> torch.Tensor:
        with Image.open(path) as image:
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)

    def batches() -> list[list[Path]]:
        size = options.batch
        return [originals[start : start + size] for start in range(0, len(originals), size)]

    def pair(paths: list[Path]) -> tuple[torch.Tensor, torch.Tensor]:
        made = [out / path.name for path in paths]
        return torch.stack([*map(read, paths)]), torch.stack([*map(read, made)])

    with torch.inference_mode():
        if options.stage == "write":
            from vtbench.registry.entries import load_registry
            from vtbench.tokenizers import build_tokenizer

            entry = load_registry()[options.model]
            tokenizer = build_tokenizer(entry, device="cpu", random_weights=True)
            clock.mark(0)
            for paths in batches():
                images = torch.stack([*map(read, paths)]).float() / 255
                decoded = tokenizer.decode(tokenizer.encode(images)).clamp(0, 1)
                pixels = (decoded * 255 + 0.5).to(torch.uint8).permute(0, 2, 3, 1).numpy()
                for path, picture in zip(paths, pixels, strict=True):
                    Image.fromarray(picture).save(out / path.name)
        elif options.stage == "torchmetrics":
            from torchmetrics.functional.image import (
                multiscale_structural_similarity_index_measure as ms_ssim,
            )
            from torchmetrics.functional.image import (
                peak_signal_noise_ratio,
                structural_similarity_index_measure,
            )

            clock.mark(0)
            for paths in batches():  # one metric at a time, each reads the files again
                x, y = (side.float() for side in pair(paths))
                for a, b in zip(x, y, strict=True):
                    peak_signal_noise_ratio(b, a, data_range=255.0)
            for paths in batches():
                x, y = (side.float() for side in pair(paths))
                structural_similarity_index_measure(y, x, data_range=255.0, reduction="none")
            for paths in batches():
                x, y = (side.float() for side in pair(paths))
                ms_ssim(y, x, data_range=255.0)
        elif options.stage == "lpips":
            network = stand_ins.open_lpips()
            clock.mark(0)
            for paths in batches():
                x, y = (side.float() / 127.5 - 1 for side in pair(paths))
                network(x, y)
        else:
            network = stand_ins.open_inception(options.folder)
            clock.mark(0)
            for side in (options.folder / "images", out):
                for paths in batches():
                    images = torch.stack([read(side / path.name) for path in paths]).float() / 255
                    resized = torch.nn.functional.interpolate(images, (299, 299), mode="bilinear")
                    network(2 * resized - 1)
    clock.mark(len(originals))


def main() -> None:
    """Print both ways' seconds an image and their ratios, or be one process of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="taesd")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stage", choices=(*STAGES, "vtbench"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        clock = Clock([])
        if options.stage == "vtbench":
            options.networks = True
            run_vtbench(options, clock, whole=True)
        else:
            run_stage(options, clock)
        print(json.dumps(clock.report()))
        return
    import stand_ins

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "images").mkdir()
        write_images(folder / "images", options.images)
        stand_ins.write_weights(folder)
        given = ["--folder", place, "--model", options.model, "--batch", str(options.batch)]
        ways: dict[str, list[dict[str, float]]] = {"two stages": [], "first": [], "further": []}
        for number in range(options.rounds):
            cache = {"XDG_CACHE_HOME": str(folder / f"cache{number}")}
            total: dict[str, float] = {}
            for stage in STAGES:
                report = call_script(__file__, [*given, "--stage", stage], cache)
                total = {key: total.get(key, 0) + value for key, value in report.items()}
            ways["two stages"].append(total)
            for which in ("first", "further"):
                ways[which].append(call_script(__file__, [*given, "--stage", "vtbench"], cache))
        best = {
            name: (min(r["wall"] for r in reports), min(r["user"] + r["system"] for r in reports))
            for name, reports in ways.items()
        }
        print("| way | wall (s/image) | processor (s/image) | times as fast, wall | processor |")
        print("|---|---:|---:|---:|---:|")
        for name, (wall, processor) in best.items():
            of_wall, of_processor = (
                a / b for a, b in zip(best["two stages"], best[name], strict=True)
            )
            print(f"| {name} | {wall:.3f} | {processor:.3f} | {of_wall:.2f} | {of_processor:.2f} |")


if __name__ == "__main__":
    main()
