"""DISTS against torchmetrics' transcription of the authors' code and against piq, all on one random
backbone with random α and β; and what must be refused."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import piq
import pytest
import skimage.data
import torch
import torchvision
from torch import Tensor

from vtbench.base.errors import WeightsMismatch, WeightsMissing
from vtbench.base.files import sha256_file
from vtbench.metrics import dists
from vtbench.metrics.catalogue import METRICS
from vtbench.metrics.device_arithmetic import (
    ON_CPU,
    WITH_SLOW_FLOAT64,
    WITHOUT_FLOAT64,
    Arithmetic,
)
from vtbench.metrics.dists import CHANNELS, MIN_SIDE, STAGES, Dists
from vtbench.metrics.inception import split_chunks

# float32 features and, in the others, float32 moments: E[xy] − E[x]·E[y] cancels.
TOLERANCE = 2e-6


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a torchvision checkpoint with seeded random features."""
    path = tmp_path_factory.mktemp("backbone") / "vgg16.pth"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        features = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
        for layer in features:
            if isinstance(layer, torch.nn.Conv2d):
                # As large as an ImageNet network keeps its features, or the small constants decide.
                torch.nn.init.kaiming_normal_(layer.weight)
                torch.nn.init.normal_(layer.bias, std=0.1)
    state = {f"features.{key}": value for key, value in features.state_dict().items()}
    torch.save(state | {"classifier.6.bias": torch.zeros(1000)}, path)
    return path


@pytest.fixture(scope="module")
def factors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("factors") / "weights.pt"
    generator = torch.Generator().manual_seed(4)
    shape = (1, sum(CHANNELS), 1, 1)
    torch.save({key: torch.rand(shape, generator=generator) for key in ("alpha", "beta")}, path)
    return path


def open_dists(backbone: Path, factors: Path) -> Dists:
    return Dists(
        backbone,
        factors,
        device="cpu",
        expected_sha8=sha256_file(backbone)[:8],
        expected_sha256=sha256_file(factors),
    )


@pytest.fixture(scope="module")
def vgg(backbone: Path) -> torch.nn.Module:
    """Return torchvision's VGG-16 with the backbone's features and no classifier to fill."""
    with torch.device("meta"):
        model = torchvision.models.vgg16()
    model.classifier = torch.nn.Identity()
    state = {
        k: v
        for k, v in torch.load(backbone, weights_only=True).items()
        if k.startswith("features.")
    }
    model.load_state_dict(state, assign=True)
    return model


def photos(height: int, width: int) -> tuple[Tensor, Tensor]:
    array = torch.from_numpy(skimage.data.astronaut()[:height, :width].copy())
    image = array.permute(2, 0, 1)[None]
    image = torch.cat([image, 255 - image.flip(3)])
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(-30, 31, image.shape, generator=generator)
    return image, (image.to(torch.int16) + noise).clamp(0, 255).to(torch.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(17, 17), (64, 64), (67, 45)], ids=str)
def test_it_is_torchmetrics_and_piq(
    size: tuple[int, int],
    backbone: Path,
    factors: Path,
    vgg: torch.nn.Module,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reference, image = photos(*size)
    value = open_dists(backbone, factors)(reference, image)
    assert value is not None and value.dtype == torch.float64 and value.shape == (2,)
    assert bool((value > 0.005).all() and (value < 1).all())
    x, y = reference / 255.0, image / 255.0

    from torchmetrics.functional.image import dists as torchmetrics_dists  # seconds

    monkeypatch.setattr(torchmetrics_dists, "vgg16", lambda weights: vgg)
    monkeypatch.setattr(torchmetrics_dists, "_PATH_WEIGHT_DISTS", factors)
    theirs = torchmetrics_dists.DISTSNetwork()
    assert torch.allclose(value, theirs(x, y).double(), atol=TOLERANCE, rtol=0)
    # Mutants: levels for [0, 1], and another order of the colours.
    for wrong in (theirs(x * 255, y * 255), theirs(x.flip(1), y.flip(1))):
        assert (value - wrong).abs().max().item() > 100 * TOLERANCE
    # A mutant of the pooling: VGG's own.
    for stage in (theirs.stage2, theirs.stage3, theirs.stage4, theirs.stage5):
        stage[0] = torch.nn.MaxPool2d(2, ceil_mode=True)
    assert (value - theirs(x, y)).abs().max().item() > 100 * TOLERANCE

    # piq replaces the poolings in the network that it is given.
    monkeypatch.setitem(piq.DISTS.__init__.__globals__, "vgg16", lambda **_: copy.deepcopy(vgg))
    state = torch.load(factors, weights_only=True)
    total = state["alpha"].sum() + state["beta"].sum()
    monkeypatch.setattr(
        torch.hub,
        "load_state_dict_from_url",
        lambda *_, **__: {k: v / total for k, v in state.items()},
    )
    other = piq.DISTS(reduction="none")(x, y)
    assert torch.allclose(value, other.double(), atol=TOLERANCE, rtol=0)


@pytest.mark.slow
def test_identity_batches_and_small_images(backbone: Path, factors: Path) -> None:
    network = open_dists(backbone, factors)
    reference, image = photos(40, 33)
    same = network(reference, reference)
    assert same is not None and torch.equal(same, torch.zeros(2, dtype=torch.float64))
    value = network(reference, image)
    for index in range(2):
        alone = network(reference[index : index + 1], image[index : index + 1])
        assert value is not None and alone is not None and torch.equal(alone[0], value[index])
    assert network(reference[..., : MIN_SIDE - 1], image[..., : MIN_SIDE - 1]) is None
    with pytest.raises(ValueError, match="uint8"):
        network(reference, image / 255.0)


@pytest.mark.slow
@pytest.mark.parametrize("arithmetic", [ON_CPU, WITH_SLOW_FLOAT64, WITHOUT_FLOAT64], ids=str)
def test_distances_do_not_depend_on_device_and_batch(
    arithmetic: Arithmetic, backbone: Path, factors: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An accelerator's parts and arithmetic, at batches of 1, 5 and 32, against images one by one."""
    tolerance = METRICS["dists"].tolerance
    assert tolerance is not None
    network = open_dists(backbone, factors)
    generator = torch.Generator().manual_seed(3)
    reference = torch.randint(0, 256, (32, 3, 18, 21), generator=generator).to(torch.uint8)
    reference[1] = 255
    image = reference // 2 + 60
    alone = network(reference, image)
    assert alone is not None and bool((alone > 100 * tolerance).all())
    network._arithmetic = arithmetic
    parts = functools.partial(split_chunks, device=torch.device("cuda"), most=8)
    monkeypatch.setattr(dists, "split_chunks", lambda side, *_: parts(side))
    for size in (1, 5, 32):
        found = [network(*p) for p in zip(reference.split(size), image.split(size), strict=True)]
        values = torch.cat([part for part in found if part is not None])
        assert values.dtype == torch.float64 and values.shape == (32,)
        assert (values - alone).abs().max() < tolerance


@pytest.mark.slow
def test_large_maps_are_taken_in_parts(
    backbone: Path, factors: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = photos(40, 33)
    whole = open_dists(backbone, factors)(*pair)
    monkeypatch.setattr("vtbench.metrics.dists._CHUNK", 40 * 33 * 5)
    parts = open_dists(backbone, factors)(*pair)
    # float64 sums over channels in another order
    assert whole is not None and parts is not None
    assert torch.allclose(parts, whole, atol=1e-13, rtol=0)


def test_the_stages_are_those_of_torchvision() -> None:
    layers = torchvision.models.vgg.cfgs["D"]
    place, stages = 0, [[]]  # type: ignore[var-annotated]
    for layer in layers:
        if layer == "M":
            stages.append([])
            place += 1
        else:
            stages[-1].append(place)
            place += 2
    assert tuple(tuple(stage) for stage in stages if stage) == STAGES
    last = [[c for c in layers[:i] if c != "M"][-1] for i, c in enumerate(layers) if c == "M"]
    assert (3, *last) == CHANNELS


@pytest.mark.slow
def test_other_files_are_refused(backbone: Path, factors: Path, tmp_path: Path) -> None:
    sha8 = sha256_file(backbone)[:8]
    with pytest.raises(WeightsMismatch, match="f5e65c96"):
        Dists(backbone, factors, device="cpu", expected_sha8=sha8)
    with pytest.raises(WeightsMismatch, match="397923af"):
        Dists(backbone, factors, device="cpu", expected_sha256=sha256_file(factors))
    with pytest.raises(WeightsMissing, match="vtbench fetch dists"):
        Dists(backbone, tmp_path / "none.pt", device="cpu", expected_sha8=sha8)
    for content in ({"alpha": torch.zeros(1, 1475, 1, 1)}, {"alpha": torch.ones(3), "beta": 1}):
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(WeightsMismatch, match="should hold alpha and beta"):
            open_dists(backbone, tmp_path / "w.pt")
    torch.save([1], tmp_path / "w.pt")
    with pytest.raises(WeightsMismatch, match="no state dict"):
        open_dists(backbone, tmp_path / "w.pt")
    state = torch.load(backbone, weights_only=True)
    del state["features.28.bias"]
    torch.save(state, tmp_path / "vgg.pth")
    with pytest.raises(WeightsMismatch, match=r"features\.28\.bias"):
        open_dists(tmp_path / "vgg.pth", factors)
