"""The patch tokenizers against numpy by hand, and their shipped weights against their entries."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from skimage import data

from vtbench import images as pixels
from vtbench.base.errors import RegistryError, WeightsMismatch, WeightsMissing
from vtbench.base.records import SizePolicy, Spec
from vtbench.tokenizers import patch
from vtbench.tokenizers.nn import quantize
from vtbench.tokenizers.patch import PatchPca, PatchVq

ROOT = Path(__file__).parents[2]
ENTRIES = sorted((ROOT / "registry").glob("patch-*.yaml"))
PCA = Spec(
    "pca-under-test",
    "patch",
    "continuous",
    "none",
    downsample=4,
    latent_channels=48,
    input_range=(-1.0, 1.0),
    size=SizePolicy(multiple=4),
)
VQ = dataclasses.replace(
    PCA, name="vq-under-test", kind="discrete", latent_channels=None, codebook_size=64
)


def random_images(*size: int, n: int = 2) -> torch.Tensor:
    return torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(0))


def write_pca(folder: Path, components: int = 48) -> Path:
    generator = torch.Generator().manual_seed(1)
    rows = torch.linalg.qr(torch.randn(48, 48, generator=generator, dtype=torch.float64)).Q
    mean = 0.1 * torch.randn(48, generator=generator)
    path = folder / f"pca-{components}.safetensors"
    save_file({"mean": mean, "components": rows[:components].float().contiguous()}, path)
    return path


def write_vq(folder: Path) -> Path:
    codebook = torch.rand(64, 48, generator=torch.Generator().manual_seed(2)) * 2 - 1
    path = folder / "vq.safetensors"
    save_file({"codebook": codebook.half()}, path)
    return path


def patches_by_hand(images: torch.Tensor, side: int) -> np.ndarray:
    """N×h×w×D in [−1, 1], one patch at a time: channel, row, column."""
    array = images.double().numpy() * 2 - 1
    n, _, height, width = array.shape
    grid = np.empty((n, height // side, width // side, 3 * side**2))
    for row in range(height // side):
        for column in range(width // side):
            cut = array[:, :, row * side : (row + 1) * side, column * side : (column + 1) * side]
            grid[:, row, column] = cut.reshape(n, -1)
    return grid


def from_entry(path: Path, **more):
    entry = yaml.safe_load(path.read_text(encoding="utf-8"))
    keys = ("family", "kind", "quantizer", "downsample", "codebook_size", "latent_channels")
    spec = Spec(
        path.stem,
        **{key: entry.get(key) for key in keys},
        input_range=tuple(map(float, entry["input_range"])),
        size=SizePolicy(**entry["size"]),
    )
    adapter = getattr(patch, entry["adapter"].split(":")[1])
    return entry, adapter(spec, weights=ROOT / "data" / entry["weights"]["file"], **more)


def test_pca_with_all_components_is_lossless(tmp_path):
    tokenizer = PatchPca(PCA, weights=write_pca(tmp_path))
    images = random_images(32, 20)
    assert torch.allclose(tokenizer.decode(tokenizer.encode(images)), images, atol=2e-6)


def test_pca_equals_numpy_by_hand(tmp_path):
    path = write_pca(tmp_path, 5)
    tokenizer = PatchPca(dataclasses.replace(PCA, latent_channels=5), weights=path)
    images = random_images(8, 12)
    code = tokenizer.encode(images)
    weights = {key: tensor.double().numpy() for key, tensor in load_file(path).items()}
    latents = (patches_by_hand(images, 4) - weights["mean"]) @ weights["components"].T
    assert code.latents.shape == (2, 5, 2, 3)
    assert np.allclose(code.latents.permute(0, 2, 3, 1), latents, atol=1e-5)
    assert code.tokens == (6, 6) and code.bits == (6 * 5 * 16.0,) * 2
    restored = latents @ weights["components"] + weights["mean"]
    decoded = patches_by_hand(tokenizer.decode(code), 4)
    assert np.allclose(decoded, restored, atol=1e-5)


def test_pca_decode_after_encode_is_a_projection(tmp_path):
    tokenizer = PatchPca(
        dataclasses.replace(PCA, latent_channels=5), weights=write_pca(tmp_path, 5)
    )
    images = random_images(16, 16)
    once = tokenizer.decode(tokenizer.encode(images))
    assert (once - images).abs().max() > 0.1
    assert torch.allclose(tokenizer.decode(tokenizer.encode(once)), once, atol=2e-6)


@pytest.mark.parametrize("chunk", [1 << 22, 64 * 7])
def test_vq_indices_are_those_of_brute_force(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(quantize, "CHUNK_VALUES", chunk)  # 7 patches at a time, the last one short
    path = write_vq(tmp_path)
    tokenizer = PatchVq(VQ, weights=path)
    images = random_images(24, 40)
    code = tokenizer.encode(images)
    patches = torch.from_numpy(patches_by_hand(images, 4))
    codebook = load_file(path)["codebook"].double()
    expected = torch.cdist(patches.flatten(0, 2), codebook).argmin(dim=1).reshape(2, 6, 10)
    assert code.indices.dtype == torch.int64 and torch.equal(code.indices, expected)
    assert code.tokens == (60, 60) and code.bits == (360.0, 360.0)
    decoded = patches_by_hand(tokenizer.decode(code), 4)
    assert np.allclose(decoded, codebook[expected].numpy(), atol=1e-6)


def test_vq_keeps_codewords(tmp_path):
    tokenizer = PatchVq(VQ, weights=write_vq(tmp_path))
    code = tokenizer.encode(random_images(32, 32))
    again = tokenizer.encode(tokenizer.decode(code))
    assert torch.equal(code.indices, again.indices)


@pytest.mark.parametrize("path", ENTRIES, ids=lambda p: p.stem)
def test_a_shipped_code_does_not_depend_on_its_batch(path):
    _, tokenizer = from_entry(path)
    images = torch.cat([pixels.to_float([data.chelsea()[:128, :192]]), random_images(128, 192)])
    together, alone = tokenizer.encode(images), tokenizer.encode(images[:1])
    if together.indices is not None:
        assert torch.equal(together.indices[:1], alone.indices)
    else:
        # A matrix product may sum in another order when it has more rows.
        assert torch.allclose(together.latents[:1], alone.latents, atol=1e-4)


@pytest.mark.parametrize("path", ENTRIES, ids=lambda p: p.stem)
def test_shipped_weights_are_what_the_entry_declares(path):
    entry, tokenizer = from_entry(path)
    file = ROOT / "data" / entry["weights"]["file"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == entry["weights"]["sha256"]
    assert sum(tensor.numel() for tensor in load_file(file).values()) == entry["parameters"]
    image = pixels.to_float([data.chelsea()])
    code = tokenizer.encode(image)
    assert code.fit.policy == "pad"  # 300×451
    decoded = tokenizer.decode(code)
    assert decoded.shape == image.shape
    error = (decoded - image).square().mean()
    flat = (image.mean(dim=(2, 3), keepdim=True) - image).square().mean()
    assert error < flat / 3
    if isinstance(tokenizer, PatchPca):
        rows = tokenizer.components.double()
        assert torch.allclose(rows @ rows.T, torch.eye(len(rows), dtype=torch.float64), atol=1e-6)
    else:
        assert len(tokenizer.codebook.unique(dim=0)) == entry["codebook_size"]


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (33, 8)])
def test_other_sizes_are_padded_and_cropped_back(tmp_path, size):
    images = random_images(*size)
    pca = PatchPca(PCA, weights=write_pca(tmp_path))
    assert torch.allclose(pca.decode(pca.encode(images)), images, atol=2e-6)
    vq = PatchVq(VQ, weights=write_vq(tmp_path))
    code = vq.encode(images)
    assert code.indices.shape == (2, -(-size[0] // 4), -(-size[1] // 4))
    assert vq.decode(code).shape == images.shape


@pytest.mark.parametrize("dtype, levels", [(torch.bfloat16, 4), (torch.float16, 1)])
@pytest.mark.parametrize("path", ENTRIES, ids=lambda p: p.stem)
def test_half_precision_is_close(path, dtype, levels):
    image = pixels.to_float([data.chelsea()[:160, :160]])
    _, full = from_entry(path)
    _, half = from_entry(path, dtype=dtype)
    a, b = full.decode(full.encode(image)), half.decode(half.encode(image))
    assert b.dtype == torch.float32
    # bf16 has 8 significant bits: its latents are off by up to 0.4 %. A codeword that is as near
    # as another may change places with it, so the mean is compared and not the largest error.
    assert (a - b).abs().mean() < levels / 255


@pytest.mark.parametrize(
    "tensors, message",
    [
        ({"mean": (48,)}, "components is missing"),
        ({"mean": (48,), "components": (48, 48), "scale": (1,)}, "scale is unexpected"),
        ({"mean": (48,), "components": (47, 48)}, r"components is \(47, 48\) and not \(48, 48\)"),
        ({"mean": (1, 48), "components": (48, 48)}, r"mean is \(1, 48\) and not \(48,\)"),
        ({"mean": (48,), "component": (48, 48)}, "components is missing; component is unexpected"),
    ],
)
def test_other_weights_are_refused(tmp_path, tensors, message):
    path = tmp_path / "wrong.safetensors"
    save_file({key: torch.zeros(shape) for key, shape in tensors.items()}, path)
    with pytest.raises(WeightsMismatch, match=message):
        PatchPca(PCA, weights=path)


def test_damaged_and_absent_weights_are_refused(tmp_path):
    path = write_vq(tmp_path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(WeightsMismatch, match="is damaged or not complete"):
        PatchVq(VQ, weights=path)
    for absent in (tmp_path, tmp_path / "nothing.safetensors"):
        with pytest.raises(WeightsMissing):
            PatchVq(VQ, weights=absent)


@pytest.mark.parametrize(
    "adapter, spec, message",
    [
        (PatchPca, dataclasses.replace(PCA, downsample=None), "patch side"),
        (PatchPca, dataclasses.replace(PCA, size=SizePolicy(multiple=6)), "patch side"),
        (PatchPca, dataclasses.replace(PCA, size=SizePolicy(4, (64, 64), "resize")), "patch side"),
        (PatchPca, dataclasses.replace(PCA, latent_channels=49), "latent_channels must be 1…48"),
        (PatchPca, dataclasses.replace(PCA, latent_channels=None), "latent_channels"),
        (PatchVq, dataclasses.replace(VQ, codebook_size=None), "codebook_size"),
    ],
)
def test_a_spec_without_sense_is_refused(tmp_path, adapter, spec, message):
    with pytest.raises(RegistryError, match=message):
        adapter(spec, weights=tmp_path / "never-read.safetensors")
