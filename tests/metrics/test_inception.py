"""The FID Inception against the networks of torch-fidelity, pytorch-fid, clean-fid and torchmetrics,
each under its own resizing, all on one file of random weights. tests/peers/compare_fid.py does the
same on 3 000 images, to the end of every metric."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from builders import photo
from torch import Tensor, nn

from vtbench.base.errors import WeightsMismatch
from vtbench.base.files import sha256_file
from vtbench.metrics import inception
from vtbench.metrics.inception import (
    FidInceptionV3,
    Inception,
    resize_pil_bicubic,
    resize_tf1,
    split_chunks,
)

# Of the largest feature. The same float32 operations in the same memory layout; what is left is that
# kernels are chosen by the batch (5e-6). In another layout they sum in another order, and this random
# network makes 1e-4 of it.
TOLERANCE = 2e-5

# What a wrong resizing or pooling must change at least.
MUTANT = 3e-3


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file in pytorch-fid's layout whose features differ from picture to picture."""
    path = tmp_path_factory.mktemp("inception") / "pt_inception-random.pth"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        with torch.device("meta"):
            net = FidInceptionV3()
        net = net.to_empty(device="cpu")
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.7, 1.3)
                nn.init.uniform_(module.bias, -0.3, 0.3)
                nn.init.zeros_(module.running_mean)  # type: ignore[arg-type]
                nn.init.ones_(module.running_var)  # type: ignore[arg-type]
                module.num_batches_tracked.zero_()  # type: ignore[union-attr,operator]
                module.momentum = None
        nn.init.uniform_(net.fc.weight, -0.1, 0.1)
        nn.init.zeros_(net.fc.bias)
        with torch.no_grad():  # measured statistics: unmeasured ones die out or explode on the way
            net.train()(resize_tf1(pictures(), torch.float32))
    torch.save(net.state_dict(), path)
    return path


def pictures() -> Tensor:
    """Return uint8 4×3×75×83: neither square nor a divisor of 299."""
    arrays = [photo(seed, 75, 83) for seed in range(4)]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


@pytest.fixture(scope="module")
def ours(weights: Path) -> Inception:
    return Inception(weights, device="cpu", sha256=sha256_file(weights)[:8])


def peer_torch_fidelity(weights: Path, dtype: str = "float32") -> nn.Module:
    import torch_fidelity.feature_extractor_inceptionv3 as module

    return module.FeatureExtractorInceptionV3(  # type: ignore[no-any-return]
        "inception-v3-compat",
        ["2048", "logits_unbiased"],
        feature_extractor_weights_path=str(weights),
        feature_extractor_internal_dtype=dtype,
    ).to(memory_format=torch.channels_last)


def peer_pytorch_fid(weights: Path, patch: pytest.MonkeyPatch, **options: bool) -> nn.Module:
    import pytorch_fid.inception as module

    patch.setattr(
        module, "load_state_dict_from_url", lambda *a, **k: torch.load(weights, weights_only=True)
    )
    net = module.InceptionV3([3], **options).eval()
    return net.to(memory_format=torch.channels_last)  # type: ignore[no-any-return]


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    scale = float(theirs.abs().max())
    assert float(theirs.std(dim=0).mean()) > 0.01 * scale  # the pictures are told apart
    assert float((ours - theirs).abs().max()) <= TOLERANCE * scale


@pytest.mark.slow
def test_it_is_torch_fidelity(ours: Inception, weights: Path) -> None:
    with torch.inference_mode():
        features, logits = peer_torch_fidelity(weights)(pictures())
    mine, my_logits = ours(pictures(), resizing="tf1")
    assert_close(mine, features)
    assert_close(my_logits, logits)
    # Mutants: the resizings of the others are other features.
    for resizing in ("half-pixel", "pil-bicubic", "antialias"):
        other, _ = ours(pictures()[:2], resizing=resizing)
        assert float((other - features[:2]).abs().max()) > MUTANT * float(features.max())


@pytest.mark.slow
def test_it_is_pytorch_fid(ours: Inception, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = peer_pytorch_fid(weights, monkeypatch)
    with torch.inference_mode():
        theirs = net(pictures() / 255)[0][:, :, 0, 0]  # what its ToTensor gives
    assert_close(ours(pictures(), resizing="half-pixel")[0], theirs)


@pytest.mark.slow
def test_it_is_clean_fid(ours: Inception, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its resizing byte for byte, and its scaling before pytorch-fid's network: its own TorchScript
    file is of the same graph."""
    import cleanfid.resize as resize

    resizer = resize.build_resizer("clean")
    resized = torch.stack(
        [
            torch.from_numpy(resizer(image.permute(1, 2, 0).numpy())).permute(2, 0, 1)
            for image in pictures()
        ]
    )
    mine = resize_pil_bicubic(pictures(), torch.float32)
    assert torch.equal(mine, (resized - 128) / 128)
    net = peer_pytorch_fid(weights, monkeypatch, resize_input=False, normalize_input=False)
    with torch.inference_mode():
        theirs = net((resized - 128) / 128)[0][:, :, 0, 0]
    assert_close(ours(pictures(), resizing="pil-bicubic")[0], theirs)


@pytest.mark.slow
def test_it_is_torchmetrics(ours: Inception, weights: Path) -> None:
    import torchmetrics.image.fid as module

    net = module.NoTrainInceptionV3("inception-v3-compat", ["2048"], str(weights))
    net = net.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        theirs = net(pictures())
    assert_close(ours(pictures(), resizing="antialias")[0], theirs)


@pytest.mark.slow
def test_batches_do_not_change_features(ours: Inception, weights: Path) -> None:
    whole, _ = ours(pictures(), resizing="tf1")
    for size in (1, 3):
        parts = [ours(part, resizing="tf1")[0] for part in torch.split(pictures(), size)]
        assert torch.equal(torch.cat(parts), whole)  # by construction
    # On an accelerator the parts have one size too, and what fills them up does not come back.
    sizes = [
        (part.shape[0], count)
        for part, count in split_chunks(torch.zeros(35, 3, 1, 1), torch.device("meta"))
    ]
    assert sizes == [(16, 16), (16, 16), (16, 3)]
    exact = Inception(weights, device="cpu", dtype=torch.float64)
    two, _ = exact(pictures()[:2], resizing="tf1")
    assert two.dtype == torch.float64
    one, _ = exact(pictures()[:1], resizing="tf1")
    assert float((two[:1] - one).abs().max()) <= 1e-9 * float(two.max())
    # float32 is near it and not it.
    difference = float((two - whole[:2]).abs().max())
    assert 1e-9 < difference < 1e-3 * float(two.max())


@pytest.mark.slow
def test_the_padding_of_an_average_is_not_counted(ours: Inception, weights: Path) -> None:
    """The mutants: torchvision's own pooling in the place of the graph's."""
    right, _ = ours(pictures()[:2], resizing="tf1")
    for attribute, function in (
        ("_average", lambda x: nn.functional.avg_pool2d(x, 3, 1, 1)),
        ("_maximum", lambda x: nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(inception, attribute, function)
            wrong, _ = Inception(weights, device="cpu")(pictures()[:2], resizing="tf1")
        assert float((wrong - right).abs().max()) > MUTANT * float(right.max()), attribute


@pytest.mark.slow
def test_a_file_that_is_not_the_network_is_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsMismatch, match="not 6726825d"):
        Inception(weights, device="cpu", sha256="6726825d")
    state = torch.load(weights, weights_only=True)
    missing = {k: v for k, v in state.items() if k != "Mixed_7c.branch_pool.conv.weight"}
    shape = state | {"fc.weight": torch.zeros(1000, 2048)}
    extra = state | {"AuxLogits.fc.bias": torch.zeros(3)}
    for name, wrong, told in (
        ("missing", missing, "branch_pool.conv.weight: missing"),
        ("shape", shape, r"fc.weight: \(1000, 2048\), not \(1008, 2048\)"),
        ("extra", extra, "AuxLogits.fc.bias: unexpected"),
    ):
        path = tmp_path / f"{name}.pth"
        torch.save(wrong, path)
        with pytest.raises(WeightsMismatch, match=told):
            Inception(path, device="cpu")
    (tmp_path / "no.pth").write_bytes(b"no weights")
    with pytest.raises(WeightsMismatch, match="no state dict"):
        Inception(tmp_path / "no.pth", device="cpu")


@pytest.mark.slow
def test_old_files_without_counters_load(weights: Path, tmp_path: Path) -> None:
    state = torch.load(weights, weights_only=True)
    old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    torch.save(old, tmp_path / "old.pth")
    net = Inception(tmp_path / "old.pth", device="cpu")
    assert net.identity == {"old.pth": sha256_file(tmp_path / "old.pth")}


def test_tf1_resizing_starts_at_the_corner() -> None:
    ramp = torch.arange(0, 250, 10, dtype=torch.uint8).expand(1, 3, 2, 25)
    row = resize_tf1(ramp, torch.float32)[0, 0, 0] * 128 + 128
    at = torch.arange(299) * torch.tensor(25 / 299)
    expected = (at * 10).clamp(max=240)
    assert torch.allclose(row, expected, atol=1e-3)  # float32 of values up to 255
    half_pixel = nn.functional.interpolate(ramp.float(), size=(299, 299), mode="bilinear")
    assert float((half_pixel[0, 0, 0] - row).abs().max()) > 4
