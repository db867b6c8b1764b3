"""LPIPS against the lpips package itself, both on one random backbone; and what must be refused."""

from __future__ import annotations

import copy
import functools
import socket
import types
import warnings
from pathlib import Path

import lpips
import pytest
import skimage.data
import torch
import torchvision
from torch import Tensor

from vtbench.base.errors import WeightsMismatch, WeightsMissing
from vtbench.base.files import sha256_file
from vtbench.images import to_float, to_rgb8
from vtbench.metrics import perceptual
from vtbench.metrics.catalogue import METRICS
from vtbench.metrics.inception import split_chunks
from vtbench.metrics.perceptual import MIN_SIDE, Lpips, check_backbone
from vtbench.weights.metrics import UrlWeights, get_metric_weights

# float32 sums over the feature maps; both run the same code on the same machine.
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a torchvision checkpoint with seeded random features for each net.

    Only the features: VGG's classifier alone would be 500 MB. The unused key of a classifier stands
    for it.
    """
    folder = tmp_path_factory.mktemp("backbones")
    paths = {}
    builders = {
        "alex": lambda: torchvision.models.AlexNet().features,
        "vgg": lambda: torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"]),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        for net, build in builders.items():
            state = {f"features.{key}": value for key, value in build().state_dict().items()}
            state["classifier.6.bias"] = torch.zeros(1000)
            paths[net] = folder / f"{net}.pth"
            torch.save(state, paths[net])
    return paths


def open_lpips(net: str, path: Path) -> Lpips:
    return Lpips(net, path, device="cpu", expected_sha8=sha256_file(path)[:8])


def package_lpips(net: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """Return the package's own module with the backbone's tensors copied in, layer by layer."""
    with warnings.catch_warnings(), monkeypatch.context() as patch:
        warnings.simplefilter("ignore")
        # Its 123 million random numbers would take seconds and nothing reads them.
        patch.setattr(torch.nn.init, "normal_", lambda tensor, *_: tensor)
        model: torch.nn.Module = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    state = torch.load(path, weights_only=True)
    trunk = model.get_submodule("net")
    for part in range(1, 6):
        for place, layer in trunk.get_submodule(f"slice{part}").named_children():
            if isinstance(layer, torch.nn.Conv2d):
                assert layer.bias is not None
                with torch.no_grad():
                    layer.weight.copy_(state[f"features.{place}.weight"])
                    layer.bias.copy_(state[f"features.{place}.bias"])
    return model


@pytest.fixture(scope="module")
def pair() -> tuple[Tensor, Tensor]:
    array = torch.from_numpy(skimage.data.astronaut()[:66, :49].copy())
    image = array.permute(2, 0, 1)[None]
    image = torch.cat([image, image.flip(3), 255 - image])
    noise = torch.randint(-30, 31, image.shape, generator=torch.Generator().manual_seed(0))
    return image, (image.to(torch.int16) + noise).clamp(0, 255).to(torch.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_it_is_the_package(
    net: str, backbones: dict[str, Path], pair: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    ours = open_lpips(net, backbones[net])
    theirs = package_lpips(net, backbones[net], monkeypatch)
    reference, image = pair
    x, y = (to_float(to_rgb8(batch)) for batch in pair)
    with torch.inference_mode():
        expected = theirs(x, y, normalize=True).flatten().double()
        unscaled = theirs(x, y).flatten().double()
    value = ours(reference, image)
    assert value is not None and value.dtype == torch.float64 and value.shape == (3,)
    assert torch.allclose(value, expected, rtol=1e-4, atol=TOLERANCE)
    assert bool((value > 100 * TOLERANCE).all())
    # The mutant: [0, 1] given to a network of [−1, 1].
    assert bool(((value - unscaled).abs() > 0.02 * value).all())
    # Batch and order do not matter, and the same image is no distance.
    for index in range(3):
        alone = ours(reference[index : index + 1], image[index : index + 1])
        assert alone is not None and torch.equal(alone[0], value[index])
    same = ours(reference, reference)
    assert same is not None and torch.equal(same, torch.zeros(3, dtype=torch.float64))
    # Sizes at which the last feature map is just not empty, and just empty.
    side = MIN_SIDE[net]
    assert ours(reference[..., :side, :side], image[..., :side, :side]) is not None
    assert ours(reference[..., : side - 1, :side], image[..., : side - 1, :side]) is None
    with pytest.raises(RuntimeError):
        theirs(x[..., : side - 1, :side], y[..., : side - 1, :side])
    with pytest.raises(ValueError, match="uint8"):
        ours(reference, y)


@pytest.mark.slow
def test_distances_do_not_depend_on_the_batch(
    backbones: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of 1, 5 and 32, one by one and in an accelerator's parts, to the tolerance of the record:
    what float32 sums of other parts differ by."""
    tolerance = METRICS["lpips_alex"].tolerance
    assert tolerance is not None
    network = open_lpips("alex", backbones["alex"])
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (2, 32, 3, 40, 36), generator=generator).to(torch.uint8)
    alone = network(*images)
    assert alone is not None
    accelerator = torch.device("cuda")
    whole = functools.partial(split_chunks, device=accelerator, most=8)
    for split in (split_chunks, lambda side, _, most: whole(side)):
        monkeypatch.setattr(perceptual, "split_chunks", split)
        for size in (1, 5, 32):
            parts = zip(images[0].split(size), images[1].split(size), strict=True)
            found = [network(x, y) for x, y in parts]
            assert all(part is not None for part in found)
            values = torch.cat([part for part in found if part is not None])
            assert values.dtype == torch.float64
            assert (values - alone).abs().max() < tolerance
    # In whatever order a device adds up: float32 is a tenth of the tolerance from float64.
    exact = copy.deepcopy(network._model).double()
    with torch.inference_mode():
        sides = (side.double() / 127.5 - 1 for side in images)
        assert (exact(*sides).flatten() - alone).abs().max() < tolerance / 10
    assert network._count_together(256, 256) == 8 and network._count_together(2000, 2000) == 1


@pytest.mark.slow
def test_opening_it_leaves_the_random_state(backbones: dict[str, Path]) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    open_lpips("alex", backbones["alex"])
    assert torch.equal(torch.rand(4), expected)


def test_torchvision_names_its_files_by_hash() -> None:
    models = torchvision.models
    for net, url in {
        "alex": models.AlexNet_Weights.IMAGENET1K_V1.url,
        "vgg": models.VGG16_Weights.IMAGENET1K_V1.url,
    }.items():
        weights = get_metric_weights(f"lpips-{net}").weights
        assert isinstance(weights, UrlWeights)
        (file,) = weights.files
        assert file.url == url and url.endswith("/" + file.name)
        assert file.sha256 is not None and file.name.endswith(f"-{file.sha256[:8]}.pth")


def test_a_backbone_that_is_not_the_published_one_is_refused(
    backbones: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(WeightsMismatch, match="7be5be79"):
        Lpips("alex", backbones["alex"], device="cpu")
    with pytest.raises(WeightsMissing, match="vtbench fetch lpips-vgg"):
        check_backbone(tmp_path / "none.pth", "vgg")
    with pytest.raises(ValueError, match="squeeze"):
        Lpips("squeeze", backbones["alex"], device="cpu")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features.10.bias": None}, r"features\.10\.bias \(missing\)"),
        ({"features.12.weight": torch.zeros(1)}, r"features\.12\.weight \(unexpected\)"),
        ({"features.0.weight": torch.zeros(64, 3, 3, 3)}, r"features\.0\.weight \(\(64, 3, 3, 3\)"),
    ],
)
def test_every_key_must_fit(
    change: dict[str, Tensor | None], words: str, backbones: dict[str, Path], tmp_path: Path
) -> None:
    state = torch.load(backbones["alex"], weights_only=True) | change
    path = tmp_path / "alex.pth"
    torch.save({key: value for key, value in state.items() if value is not None}, path)
    with pytest.raises(WeightsMismatch, match=words):
        open_lpips("alex", path)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "alex.pth"
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(WeightsMismatch, match="no state dict"):
        open_lpips("alex", path)


def test_heads_that_the_package_would_leave_random_are_noticed(
    backbones: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The mutant: a release that names a head otherwise; with strict=False it would stay random.
    class Renamed(lpips.LPIPS):
        def __init__(self, **arguments: object) -> None:
            super().__init__(**arguments)
            self.linear0 = self.lin0
            del self.lin0

    monkeypatch.setattr(lpips, "LPIPS", Renamed)
    with pytest.raises(WeightsMismatch, match=r"lin0\.model.*linear0\.model"):
        open_lpips("alex", backbones["alex"])
    monkeypatch.undo()
    other = tmp_path / "weights" / "v0.1"
    other.mkdir(parents=True)
    for name in ("alex.pth", "vgg.pth"):
        (other / name).write_bytes(b"other")
    elsewhere = types.SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr("vtbench.weights.metrics.find_spec", lambda _: elsewhere)
    with pytest.raises(WeightsMismatch, match="pip install lpips"):
        open_lpips("alex", backbones["alex"])
