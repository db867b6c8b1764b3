"""Run pytorch-fid, torch-fidelity, clean-fid and torchmetrics themselves beside vtbench.

    pip install -e ".[peers]"
    python tests/peers/compare_fid.py WORK

The same 3 000 pictures a side (dead leaves and crops of photographs, 64 to 96 px) go through every
peer's own resizing, network and arithmetic and through vtbench's, all with one file of random
weights in the layout of pytorch-fid's. Printed: the largest difference of a feature, and rFID, KID
and IS of both with their relative difference, which must not pass 1e-4; then features at batch sizes
1, 7 and 64.

The networks are the cost (hours on a small CPU), so features are kept in WORK and a killed run goes
on. Of the pictures of the second side 600 are damaged and the others are exact: both sides then
need 3 600 passes and not 6 000. pytest does not collect this file.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor, nn

from vtbench.base.files import sha256_file
from vtbench.metrics import distribution
from vtbench.metrics.distribution import Moments, kernel_distances
from vtbench.metrics.inception import Inception

Features = tuple[NDArray[np.float32], NDArray[np.float32] | None]
Extract = Callable[[Tensor], tuple[Tensor, Tensor | None]]

PHOTOS = Path(__file__).parents[2] / "data" / "embedded" / "photos"
SIZES = (64, 80, 96)
BATCH = 24
TOLERANCE = 1e-4
"""Relative, of a number: float32 features and kernels of two programs leave some 1e-6."""

RESIZINGS = {
    "torch-fidelity": "tf1",
    "pytorch-fid": "half-pixel",
    "clean-fid": "pil-bicubic",
    "torchmetrics": "antialias",
}


def make_pictures(count: int) -> dict[int, NDArray[np.uint8]]:
    """Return `count` pictures by their side: one half dead leaves, one half crops of photographs."""
    random = np.random.default_rng(7)
    photos = [Image.open(path).convert("RGB") for path in sorted(PHOTOS.iterdir())]
    made: dict[int, list[NDArray[np.uint8]]] = {side: [] for side in SIZES}
    for index in range(count):
        side = SIZES[index % len(SIZES)]
        if index % 2:
            photo = photos[int(random.integers(len(photos)))]
            cut = int(random.integers(side, min(photo.size) + 1))
            left = int(random.integers(photo.width - cut + 1))
            top = int(random.integers(photo.height - cut + 1))
            picture = photo.crop((left, top, left + cut, top + cut)).resize((side, side))
        else:
            picture = Image.new("RGB", (side, side), tuple(random.integers(0, 256, 3)))
            draw = ImageDraw.Draw(picture)
            for _ in range(int(random.integers(5, 90))):
                radius = float(side * 0.5 * (1 - random.random()) ** 2 + 1)
                x, y = random.uniform(-radius, side, 2)
                box = (x, y, x + 2 * radius, y + radius * random.uniform(0.5, 2.0))
                colour = tuple(int(v) for v in random.integers(0, 256, 3))
                (draw.ellipse if random.random() < 0.7 else draw.rectangle)(box, fill=colour)
        made[side].append(np.asarray(picture, dtype=np.uint8))
    return {side: np.stack(pictures) for side, pictures in made.items()}


def damage(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return JPEGs of quality 5 of the pictures."""
    damaged = []
    for picture in pictures:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=5)
        damaged.append(np.asarray(Image.open(buffer)))
    return np.stack(damaged)


def make_weights(path: Path, pictures: NDArray[np.uint8]) -> None:
    """Write random weights in pytorch-fid's layout. The statistics of the batch norms are measured,
    or the features of all pictures would be nearly the same and nothing could be told apart."""
    import pytorch_fid.inception as peer
    import torchvision

    torch.manual_seed(3)
    keep = peer._inception_v3, peer.load_state_dict_from_url
    kept: list[nn.Module] = []

    def build(*args: object, **kwargs: object) -> nn.Module:
        kept.append(
            torchvision.models.inception_v3(
                num_classes=1008, aux_logits=False, weights=None, init_weights=False
            )
        )
        kept[0].load_state_dict = lambda state: None  # type: ignore[method-assign,assignment]
        return kept[0]

    peer._inception_v3, peer.load_state_dict_from_url = build, lambda *a, **k: {}
    try:
        net = peer.InceptionV3([3])
    finally:
        peer._inception_v3, peer.load_state_dict_from_url = keep
    for module in kept[0].modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    nn.init.normal_(kept[0].get_submodule("fc").weight, std=0.2)
    with torch.no_grad():
        net.train()
        net(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255)
    torch.save(nn.Module.state_dict(kept[0]), path)


# The peers, each with its own resizing and network: uint8 N×3×H×W → features, logits without bias.


def open_pytorch_fid(weights: Path) -> Extract:
    import pytorch_fid.inception as peer

    peer.load_state_dict_from_url = lambda *a, **k: torch.load(weights, weights_only=True)
    net = _fast(peer.InceptionV3([3]))
    return lambda images: (net(images / 255)[0][:, :, 0, 0], None)  # ToTensor is ÷ 255


def open_torch_fidelity(weights: Path, dtype: str = "float32") -> Extract:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    net = _fast(
        FeatureExtractorInceptionV3(
            "inception-v3-compat",
            ["2048", "logits_unbiased"],
            feature_extractor_weights_path=str(weights),
            feature_extractor_internal_dtype=dtype,
        )
    )
    return net


def open_torchmetrics(weights: Path) -> Extract:
    from torchmetrics.image.fid import NoTrainInceptionV3

    net = _fast(
        NoTrainInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], str(weights))
    )
    return net._torch_fidelity_forward  # its forward gives the first of the two


def open_clean_fid(weights: Path) -> Extract:
    """clean-fid runs a TorchScript file whose `layers` are the network behind the resizing. With
    shared weights that file is pytorch-fid's network, traced; resizing, scaling and arithmetic are
    clean-fid's own."""
    import pytorch_fid.inception as peer
    from cleanfid.inception_torchscript import InceptionV3W
    from cleanfid.utils import ResizeDataset

    class Script(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            peer.load_state_dict_from_url = lambda *a, **k: torch.load(weights, weights_only=True)
            net = _fast(peer.InceptionV3([3], resize_input=False, normalize_input=False))
            layers = nn.Sequential(*net.blocks).eval()
            with torch.no_grad():
                self.layers = torch.jit.trace(layers, torch.zeros(1, 3, 299, 299))

        def forward(self, x: Tensor) -> Tensor:
            return self.layers(x)

    path = weights.parent / "inception-2015-12-05.pt"
    torch.jit.script(Script().eval()).save(str(path))
    net = InceptionV3W(str(path.parent), download=False)
    resizer = ResizeDataset([], mode="clean")

    def extract(images: Tensor) -> tuple[Tensor, None]:
        arrays = images.permute(0, 2, 3, 1).numpy()
        resized = [resizer.transforms(resizer.fn_resize(array)) for array in arrays]
        return net(torch.stack(resized)), None

    return extract


def _fast(net: nn.Module) -> nn.Module:
    """Return the network with its kernels in the layout that CPUs are fast in; same numbers."""
    return net.eval().to(memory_format=torch.channels_last)


PEERS: dict[str, Callable[[Path], Extract]] = {
    "torch-fidelity": open_torch_fidelity,
    "pytorch-fid": open_pytorch_fid,
    "clean-fid": open_clean_fid,
    "torchmetrics": open_torchmetrics,
}


def extract_all(
    extract: Callable[[], Extract], images: dict[int, NDArray[np.uint8]], folder: Path, name: str
) -> Features:
    """Return the features of all images; batches that are in the folder are not computed again."""
    folder.mkdir(parents=True, exist_ok=True)
    batches = [
        (folder / f"{side}-{start}.npz", pictures[start : start + BATCH])
        for side, pictures in images.items()
        for start in range(0, len(pictures), BATCH)
    ]
    opened: Extract | None = None
    clock, done = time.perf_counter(), 0
    for path, pictures in batches:
        if path.exists():
            continue
        opened = opened or extract()
        with torch.inference_mode():
            batch = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
            features, logits = opened(batch)
        values = {"features": features.numpy()}
        values |= {} if logits is None else {"logits": logits.numpy()}
        part = path.with_suffix(".part.npz")
        np.savez(part, **values)
        part.replace(path)
        done += len(pictures)
        if done % (BATCH * 10) == 0:
            print(f"{name}: {done} at {done / (time.perf_counter() - clock):.1f}/s", flush=True)
    loaded = [np.load(path) for path, _ in batches]
    features = np.concatenate([part["features"] for part in loaded])
    logits = np.concatenate([p["logits"] for p in loaded]) if "logits" in loaded[0] else None
    return features, logits


# Arithmetic: each peer's own, and ours on our own features.

Numbers = dict[str, float]


class Given(nn.Module):
    """Features in the place of a network, for metrics that run one themselves."""

    num_features = 2048

    def forward(self, features: Tensor) -> Tensor:
        return features


def peer_numbers(name: str, reference: Features, image: Features) -> Numbers:
    """Return rFID, and KID and IS where the peer has them, of the peer's own functions."""
    (one, _), (two, logits) = reference, image
    if name == "torch-fidelity":
        from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
        from torch_fidelity.metric_isc import isc_features_to_metric
        from torch_fidelity.metric_kid import kid_features_to_metric

        x, y = torch.from_numpy(one), torch.from_numpy(two)
        fid = fid_statistics_to_metric(
            fid_features_to_statistics(y), fid_features_to_statistics(x), verbose=False
        )
        kid = kid_features_to_metric(y, x, verbose=False)
        score = isc_features_to_metric(torch.from_numpy(logits))
        return {
            "rFID": fid["frechet_inception_distance"],
            "KID": kid["kernel_inception_distance_mean"],
            "IS": score["inception_score_mean"],
        }
    if name == "pytorch-fid":
        from pytorch_fid.fid_score import calculate_frechet_distance

        # Its get_activations collects in float64.
        stats = [
            (f.mean(axis=0), np.cov(f, rowvar=False))
            for f in (one.astype(np.float64), two.astype(np.float64))
        ]
        return {"rFID": float(calculate_frechet_distance(*stats[1], *stats[0]))}
    if name == "clean-fid":
        from cleanfid.fid import fid_from_feats, kernel_distance

        np.random.seed(0)
        return {"rFID": float(fid_from_feats(two, one)), "KID": kernel_distance(two, one)}
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.inception import InceptionScore
    from torchmetrics.image.kid import KernelInceptionDistance

    fid, kid = FrechetInceptionDistance(Given()), KernelInceptionDistance(Given())
    score = InceptionScore(Given())
    for metric in (fid, kid):
        for start in range(0, len(one), 100):
            metric.update(torch.from_numpy(one[start : start + 100]), real=True)
            metric.update(torch.from_numpy(two[start : start + 100]), real=False)
    score.update(torch.from_numpy(logits))
    numbers = {"rFID": float(fid.compute())}
    for key, metric in (("KID", kid), ("IS", score)):
        torch.manual_seed(0)
        numbers[key] = float(metric.compute()[0])
    return numbers


def our_numbers(name: str, reference: Features, image: Features) -> Numbers:
    """Return vtbench's numbers. Random subsets and shuffles are drawn as the peer draws them."""
    (one, _), (two, logits) = reference, image
    n = len(one)
    numbers = {"rFID": distribution.frechet_distance(Moments.of(one), Moments.of(two))}
    if name == "torch-fidelity":
        numbers["KID"] = distribution.kernel_distance(one, two, groups=n).value
        numbers["IS"] = distribution.inception_score(logits).value
    if name == "clean-fid":
        np.random.seed(0)
        draws = [[np.random.choice(n, 1000, replace=False) for _ in "xy"] for _ in range(100)]
        numbers["KID"] = float(np.mean(kernel_distances(one, two, ((y, x) for x, y in draws))))
    if name == "torchmetrics":
        torch.manual_seed(0)
        draws = [[torch.randperm(n)[:1000].numpy() for _ in "xy"] for _ in range(100)]
        numbers["KID"] = float(np.mean(kernel_distances(one, two, ((y, x) for x, y in draws))))
        torch.manual_seed(0)
        shuffled = np.empty_like(logits)
        shuffled[np.random.RandomState(distribution.SEED).permutation(n)] = logits[
            torch.randperm(n).numpy()
        ]
        numbers["IS"] = distribution.inception_score(shuffled).value
    return numbers


def split_sides(found: Features, n: int, damaged: int) -> tuple[Features, Features]:
    """Return the features of both sides: the exact pictures, and those with some damaged."""
    per, each = n // len(SIZES), damaged // len(SIZES)
    base = np.arange(len(SIZES))[:, None] * (per + each)
    exact = base + np.arange(per)
    image = exact.copy()
    image[:, :each] = base + per + np.arange(each)
    sides = []
    for rows in (exact.ravel(), image.ravel()):
        features, logits = found
        sides.append((features[rows], None if logits is None else logits[rows]))
    return sides[0], sides[1]


def compare(name: str, theirs: Features, ours: Features, n: int, damaged: int) -> bool:
    """Print both sides' numbers and return whether they agree."""
    largest = float(np.abs(theirs[0]).max())
    difference = float(np.abs(theirs[0] - ours[0]).max())
    print(f"{name}: {len(ours[0])} images, n = {n} a side")
    print(f"  features: largest {largest:.4f}, largest difference {difference:.3e}")
    peer = peer_numbers(name, *split_sides(theirs, n, damaged))
    mine = our_numbers(name, *split_sides(ours, n, damaged))
    good = True
    for key, value in peer.items():
        relative = abs(mine[key] - value) / abs(value)
        good &= relative <= TOLERANCE
        print(
            f"  {key}: peer {value:.8g}, vtbench {mine[key]:.8g}, relative {relative:.2e}",
            flush=True,
        )
    return good


def compare_batches(weights: Path, pictures: NDArray[np.uint8]) -> bool:
    """Print how far features at batch sizes 1, 7 and 64 differ, relative to the largest."""
    batch = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
    good = True
    for dtype, images, bound in (
        (torch.float32, batch[:64], 1e-6),
        (torch.float64, batch[:16], 1e-9),
    ):
        net = Inception(weights, device="cpu", dtype=dtype)
        found = [
            torch.cat([net(part, resizing="tf1")[0] for part in torch.split(images, size)])
            for size in (64, 7, 1)
        ]
        largest = found[0].abs().max()
        worst = max(float((other - found[0]).abs().max() / largest) for other in found[1:])
        good &= worst <= bound
        print(f"batches of 1, 7, 64, {dtype}, {len(images)} images: {worst:.2e} (≤ {bound:g})")
    return good


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--n", type=int, default=3000)
    parser.add_argument("--damaged", type=int, default=600)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--conventions", default=",".join(PEERS))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    exact = make_pictures(args.n)
    each = args.damaged // len(SIZES)
    images = {side: np.concatenate([p, damage(p[:each])]) for side, p in exact.items()}
    weights = args.work / "pt_inception-random.pth"
    if not weights.exists():
        make_weights(weights, exact[64][:96])
    print(f"weights: sha256 {sha256_file(weights)}")
    good = True
    for name in args.conventions.split(","):
        open_, resizing = PEERS[name], RESIZINGS[name]
        net = Inception(weights, device="cpu")
        both = []
        for folder, extract in (
            ("peer", lambda: open_(weights)),  # noqa: B023
            ("vtbench", lambda: lambda images: net(images, resizing=resizing)),  # noqa: B023
        ):
            both.append(extract_all(extract, images, args.work / name / folder, f"{name} {folder}"))
        good &= compare(name, *both, args.n, args.damaged)
    good &= compare_batches(weights, exact[80])
    print("all within tolerance" if good else "NOT within tolerance")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
