"""A published checkpoint, where it is on this machine: TAEF2 as its author publishes it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from vtbench import images
from vtbench.base.errors import WeightsMismatch
from vtbench.base.files import sha256_file
from vtbench.cli import main
from vtbench.registry.entries import load_entry, load_registry
from vtbench.suites.batches import load_pixels
from vtbench.suites.suites import load_suite
from vtbench.tokenizers import build_tokenizer
from vtbench.weights.entries import check_hashes, find_weights, is_pinned

FOLDER = Path(__file__).parents[3] / "shared" / "weights" / "taef2"
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="taef2_encoder.pth and taef2_decoder.pth are not on this machine"
)

OFFICIAL_DB = {"photo-astronaut-r0c0": 31.76, "photo-camera-r0c0": 36.93}
"""What madebyollin/taesd's own class gave with these files on these 256×256 pixels, rounded."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The pair alone in a folder, as a download has it."""
    for name in ("taef2_encoder.pth", "taef2_decoder.pth"):
        shutil.copyfile(FOLDER / name, tmp_path / name)
    return tmp_path


def test_the_published_pair_is_the_pinned_one() -> None:
    entry = load_registry()["taef2"]
    found = find_weights(entry, FOLDER)
    assert found is not None and is_pinned(entry, found)
    assert set(check_hashes(entry, found)) == {"taef2_encoder.pth", "taef2_decoder.pth"}


def test_another_file_under_the_name_is_refused(folder: Path) -> None:
    shutil.copyfile(folder / "taef2_decoder.pth", folder / "taef2_encoder.pth")
    with pytest.raises(WeightsMismatch, match=r"taef2_encoder\.pth has sha256 0a44a31e1ae5"):
        build_tokenizer(load_registry()["taef2"], device="cpu", weights=folder)


@pytest.mark.slow
@pytest.mark.parametrize("given", ["", "taef2_encoder.pth", "taef2_decoder.pth"])
def test_the_pair_reconstructs_as_the_official_code(folder: Path, given: str) -> None:
    tokenizer = build_tokenizer(load_registry()["taef2"], device="cpu", weights=folder / given)
    samples = {sample.id: sample for sample in load_suite("embedded@2").samples}
    for name, expected in OFFICIAL_DB.items():
        rows = torch.as_tensor(load_pixels(samples[name]))[None]
        pixels = rows.permute(0, 3, 1, 2)
        decoded = tokenizer.decode(tokenizer.encode(images.to_float(pixels)))
        error = (images.to_uint8(decoded).double() - pixels.double()).square().mean()
        # Half of the last digit that was printed.
        assert 10 * torch.log10(255**2 / error) == pytest.approx(expected, abs=0.005)


@pytest.mark.slow
def test_pin_takes_the_digests_of_local_files(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = load_registry()["taef2"].path.read_text(encoding="utf-8")
    pins = {name: sha256_file(folder / name) for name in sorted(p.name for p in folder.iterdir())}
    blank = shipped
    for digest in pins.values():
        assert f'"{digest}"' in blank
        blank = blank.replace(f'"{digest}"', "null")
    (folder / "registry").mkdir()
    path = folder / "registry" / "mine.yaml"
    path.write_text(blank, encoding="utf-8")
    entry = load_entry(path)
    assert not is_pinned(entry, find_weights(entry, folder))
    registry = ["--registry", str(path.parent)]
    assert main(["pin", "mine", "--weights", f"mine={folder}", *registry]) == 0
    assert "2 files" in capsys.readouterr().out
    assert path.read_text(encoding="utf-8") == shipped
