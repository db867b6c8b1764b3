"""Random weights in place of the published ones, for timing alone.

Benchmarks measure what a run costs, not what it finds; the cost of a network does not depend on its
weights. `write_weights` makes files of the published names and shapes, and `use_weights` points a
process at them through a catalogue of metric weights of their own, whose digests are those of these
files. No number that comes out of them is a result.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
import yaml

from vtbench.base.files import sha256_file
from vtbench.metrics.inception import FidInceptionV3
from vtbench.weights import metrics as metric_weights

NETWORKS = ("lpips-alex", "fid-inception")


def write_weights(folder: Path) -> None:
    """Write AlexNet's features and the FID Inception with seeded random values, and their catalogue."""
    import torchvision

    torch.manual_seed(0)
    features = torchvision.models.AlexNet().features.state_dict()
    inception = FidInceptionV3()
    states = {
        "lpips-alex": {f"features.{key}": value for key, value in features.items()},
        "fid-inception": inception.state_dict(),
    }
    catalogue = yaml.safe_load(metric_weights.catalogue_path().read_text(encoding="utf-8"))
    for key, state in states.items():
        (file,) = catalogue[key]["weights"]["files"]
        path = folder / key / file["name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, path)
        file["sha256"] = sha256_file(path)
    (folder / "metric_weights.yaml").write_text(yaml.safe_dump(catalogue), encoding="utf-8")


def use_weights(folder: Path) -> None:
    """Let this process find its metrics' weights in the folder, and nowhere else."""
    import os

    os.environ["VTBENCH_WEIGHTS"] = str(folder)
    metric_weights.catalogue_path = lambda: folder / "metric_weights.yaml"  # type: ignore[assignment]
    metric_weights.metric_weights.cache_clear()


def open_lpips() -> torch.nn.Module:
    """Return the package's LPIPS (Alex) as its README opens it, with a random backbone."""
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network: torch.nn.Module = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    return network.eval()


def open_inception(folder: Path) -> FidInceptionV3:
    """Return the FID Inception with the folder's weights, in torch's default layout."""
    (path,) = (folder / "fid-inception").iterdir()
    network = FidInceptionV3()
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()
