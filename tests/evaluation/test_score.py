"""Reconstructions that were made elsewhere: paired by name, measured as a run measures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import vtbench
from vtbench.base.errors import CellFailed, VtbenchError
from vtbench.cli import main
from vtbench.images import encode_png, load_rgb8
from vtbench.results.folder import read_run
from vtbench.results.rows import ROW_COLUMNS


@pytest.mark.slow
def test_what_reconstruct_wrote_scores_as_the_run_did(data: Path) -> None:
    suite = ["--suite", "mini", "--data", str(data)]
    assert main(["run", *suite, "-t", "jpeg-q50", "--out", "runs"]) == 0
    assert main(["reconstruct", *suite, "-t", "jpeg-q50", "--out", "made"]) == 0
    assert sorted(p.name for p in Path("made/jpeg-q50").iterdir()) == [
        *("chart.png", "page.png", "photo-0.png", "photo-1.png", "photo-2.png", "photo-odd.png")
    ]
    assert main(["score", *suite, "made/jpeg-q50", "--name", "mine", "--out", "scored"]) == 0
    run, scored = read_run(Path("runs/jpeg-q50")), read_run(Path("scored/mine"))
    rate = {"tokens", "bits", "fit", "encode_s", "decode_s", "peak_memory_mib"}
    for ours, theirs in zip(scored.rows, run.rows, strict=True):
        for column in set(ROW_COLUMNS) - rate:
            assert ours[column] == theirs[column], column
    assert {row["bits"] for row in scored.rows} == {None}
    assert scored.record.protocol.source == "files"
    assert not scored.record.tokenizer.registered
    table = Path("scored/leaderboard.md").read_text(encoding="utf-8")
    assert "| mine |" in table


def test_lists_and_batches_are_paired_by_place() -> None:
    images = torch.rand(3, 3, 16, 16)
    result = vtbench.score(images, list(images.flip(0)), bits_per_image=[1.0, 2.0, 4.0])
    rows = result.to_arrow().to_pylist()
    assert [row["bits"] for row in rows] == [1.0, 2.0, 4.0]
    assert rows[1]["psnr_db"] == 100 and rows[0]["psnr_db"] < 20


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Return a folder of three originals and one of their reconstructions."""
    originals, made = tmp_path / "originals", tmp_path / "made"
    for index, name in enumerate(("a.png", "sub/b.png", "c.png")):
        pixels = (torch.rand(20, 24 + index, 3) * 255).byte().numpy()
        for root in (originals, made):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png(pixels))
    return originals, made


def test_folders_are_paired_by_name(folders: tuple[Path, Path]) -> None:
    result = vtbench.score(*folders, bits_per_image={"a.png": 100})
    assert [row["id"] for row in result.to_arrow().to_pylist()] == ["a.png", "c.png", "sub/b.png"]
    assert result.scores["reconstruction.psnr_db"] == 100
    assert [row["bits"] for row in result.to_arrow().to_pylist()] == [100, None, None]


def test_another_ending_is_the_same_image(folders: tuple[Path, Path]) -> None:
    originals, made = folders
    (made / "a.png").rename(made / "a.PNG")
    from PIL import Image

    Image.fromarray(load_rgb8(made / "c.png")).save(made / "c.bmp")
    (made / "c.png").unlink()
    (made / ".hidden.png").write_bytes(b"")
    (made / "notes.txt").write_text("of mine")
    assert vtbench.score(originals, made).scores["reconstruction.psnr_db"] == 100


def test_a_missing_a_stray_and_a_second_reconstruction_are_named(
    folders: tuple[Path, Path],
) -> None:
    originals, made = folders
    (made / "z.png").write_bytes((made / "a.png").read_bytes())
    with pytest.raises(VtbenchError, match=r"no original belongs to z.png"):
        vtbench.score(originals, made)
    (made / "z.png").unlink()
    (made / "a.bmp").write_bytes((made / "a.png").read_bytes())
    with pytest.raises(VtbenchError, match=r"are both reconstructions of a.png"):
        vtbench.score(originals, made)
    (made / "a.bmp").unlink()
    (made / "sub" / "b.png").unlink()
    with pytest.raises(VtbenchError, match=r"no reconstruction of sub/b.png"):
        vtbench.score(originals, made)


def test_reconstructions_that_are_jpeg_are_warned_of(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    from PIL import Image

    originals, made = folders
    vtbench.score(originals, made)
    assert "JPEG" not in caplog.text
    Image.fromarray(load_rgb8(made / "c.png")).save(made / "c.jpg")
    (made / "c.png").unlink()
    vtbench.score(originals, made)
    assert "1 of 3 reconstructions are JPEG files" in caplog.text


def test_another_size_fails_by_name(folders: tuple[Path, Path]) -> None:
    originals, made = folders
    (made / "c.png").write_bytes((made / "a.png").read_bytes())
    with pytest.raises(CellFailed, match=r"c.png: .*is 24×20, the original 26×20"):
        vtbench.score(originals, made)


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        (-1.0, "expected a positive number"),
        ([1.0], "1 numbers for 3 images"),
        ({"x": 1.0}, "no image x"),
        (float("nan"), "expected a positive number"),
    ],
)
def test_rates_that_cannot_be(folders: tuple[Path, Path], bits: object, message: str) -> None:
    with pytest.raises(VtbenchError, match=message):
        vtbench.score(*folders, bits_per_image=bits)


def test_the_command_says_what_it_wants(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", str(folders[0])]) == 2
    assert "expected ORIGINALS and RECONSTRUCTIONS, got 1 folders" in capsys.readouterr().err
    assert main(["score", str(folders[0]), "nowhere"]) == 2
    assert "nowhere is no folder of reconstructions" in capsys.readouterr().err
    assert main(["score", *map(str, folders), "--name", "../x"]) == 2
