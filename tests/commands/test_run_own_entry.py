"""One short YAML file and a folder of weights are a tokenizer: it runs, its posterior can be sampled,
and without a pin it is not published."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from builders import photo

from vtbench.base.locations import registry_dir
from vtbench.cli import main
from vtbench.images import encode_png, to_float, to_rgb8, to_uint8
from vtbench.results.folder import read_run
from vtbench.suites.image_folder import name_folder_suite

TINY = {
    "block_out_channels": [32, 64],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "layers_per_block": 1,
    "latent_channels": 4,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    model = AutoencoderKL(**TINY).eval()
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    return model, folder


@pytest.fixture
def own(tmp_path: Path, model: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """sd-vae-ft-mse under another name, with a network that a test can run."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    fields = yaml.safe_load((registry_dir() / "sd-vae-ft-mse.yaml").read_text(encoding="utf-8"))
    for key in ("reported", "parameters", "gmac", "paper"):
        fields.pop(key)
    fields["options"]["config"] = TINY
    fields |= {"title": "Mine", "downsample": 2, "size": {"multiple": 2}}
    fields["weights"] = {"source": "local", "path": str(model[1]), "licence": "MIT"}
    folder = tmp_path / "registry"
    folder.mkdir()
    text = yaml.safe_dump(fields, sort_keys=False, default_flow_style=None, width=100)
    assert len(text.splitlines()) <= 30
    (folder / "my-vae.yaml").write_text(text, encoding="utf-8")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for seed in range(2):
        (pictures / f"{seed}.png").write_bytes(encode_png(photo(seed, 24, 31)))
    yield tmp_path


def run(own: Path, *more: str) -> int:
    folders = ("--images", str(own / "pictures"), "--registry", str(own / "registry"))
    return main(["run", *folders, "--device", "cpu", *more])


@pytest.mark.slow
def test_one_file_and_a_folder_run(
    own: Path, model: tuple[Any, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(own, "--tokenizer", "my-vae") == 0
    out = Path("results/local") / name_folder_suite(own / "pictures")
    found = read_run(out / "my-vae")
    assert found.record.complete and found.record.protocol.posterior == "mode"
    assert "my-vae" in (out / "leaderboard.md").read_text(encoding="utf-8")
    images = to_float([photo(0, 24, 31)])
    padded = torch.cat([images, images[..., -2:-1]], dim=-1)  # 31 is odd: one column of reflection
    with torch.inference_mode():
        posterior = model[0].encode(padded * 2 - 1).latent_dist
        decoded = model[0].decode(posterior.mode()).sample[..., :31] / 2 + 0.5
    # Written as its neighbour in the row of the board: the run has the picture's own PSNR.
    error = (to_uint8(decoded).double() - to_uint8(images).double()).square().mean()
    row = next(row for row in found.rows if row["id"].startswith("0"))
    # Its batch of two may round a pixel to the neighbouring level, which moves the PSNR by 1e-4 dB.
    assert abs(row["psnr_db"] - float(10 * torch.log10(255**2 / error))) < 1e-3

    # The sample is another row beside it, with a seed of its own and another score.
    assert run(own, "-t", "my-vae", "--posterior", "sample") == 0
    sampled = read_run(out / "my-vae@posterior-sample")
    assert sampled.record.protocol.posterior == "sample"
    assert sampled.record.tokenizer.stochastic and not found.record.tokenizer.stochastic
    assert sampled.record.key != found.record.key
    assert sampled.rows[0]["psnr_db"] != found.rows[0]["psnr_db"]
    assert read_run(out / "my-vae").record == found.record
    board = (out / "leaderboard.md").read_text(encoding="utf-8")
    assert "| my-vae |" in board and "| my-vae@posterior-sample |" in board
    assert run(own, "-t", "my-vae", "--posterior", "sample") == 0
    assert read_run(out / "my-vae@posterior-sample").record == sampled.record, "it was reused"

    # Of what was not named, the others are left out with the reason.
    capsys.readouterr()
    assert run(own, "-t", "jpeg-q50", "--posterior", "sample") == 2
    said = capsys.readouterr().err
    assert said.strip() == "vtbench: jpeg-q50: --posterior sample: it has no posterior"
    assert run(own, "-t", "my-vae", "--family", "sanity", "--posterior", "sample") == 0
    skipped = json.loads((out / "suite.json").read_text())["skipped"]
    assert {
        "name": "identity@posterior-sample",
        "reason": "--posterior sample: it has no posterior",
    } in skipped


@pytest.mark.slow
def test_pictures_of_both_stand_beside_each_other(own: Path, model: tuple[Any, Path]) -> None:
    picture = str(own / "pictures" / "0.png")
    arguments = ["reconstruct", picture, "-t", "my-vae", "--registry", str(own / "registry")]
    assert main([*arguments, "--out", "a", "--device", "cpu"]) == 0
    assert main([*arguments, "--out", "a", "--device", "cpu", "--posterior", "sample"]) == 0
    mode, sample = Path("a/0.my-vae.png"), Path("a/0.my-vae@posterior-sample.png")
    assert mode.read_bytes() != sample.read_bytes()
    with torch.inference_mode():
        images = to_float([photo(0, 24, 31)])
        padded = torch.cat([images, images[..., -2:-1]], dim=-1)
        posterior = model[0].encode(padded * 2 - 1).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(0))
        decoded = model[0].decode(posterior.mean + posterior.std * noise).sample[..., :31]
    expected = to_rgb8(to_uint8(decoded / 2 + 0.5))[0]
    assert sample.read_bytes() == encode_png(expected)


@pytest.mark.slow
def test_a_network_of_one_size_sees_tiles_if_asked(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = own / "registry" / "my-vae.yaml"
    fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    fields["size"] = {"fixed": [16, 16], "policy": "resize"}
    path.write_text(yaml.safe_dump(fields), encoding="utf-8")
    assert run(own, "-t", "my-vae") == 0
    assert run(own, "-t", "my-vae", "--size-policy", "tile") == 0
    out = Path("results/local") / name_folder_suite(own / "pictures")
    resized, tiled = (read_run(out / name).rows for name in ("my-vae", "my-vae@tile"))
    assert {(row["fit"], row["tokens"]) for row in resized} == {("resize", 8 * 8)}
    assert {(row["fit"], row["tokens"]) for row in tiled} == {("tile", 2 * 2 * 8 * 8)}
    assert all(row["bits"] == 256 * 4 * 16 for row in tiled)
    assert all(row["seam_step"] is not None for row in tiled)
    assert all(row["seam_step"] is None for row in resized)
    board = (out / "leaderboard.md").read_text(encoding="utf-8")
    assert "Seam steps" in board
    assert "Cut into tiles of the network's size, each by itself: my-vae@tile." in board
    assert "Resized to the network's size and back: my-vae." in board
    capsys.readouterr()
    assert run(own, "-t", "identity", "--size-policy", "tile") == 2
    assert capsys.readouterr().err == (
        "vtbench: identity: --size-policy tile: it takes images of any size\n"
    )


@pytest.mark.slow
def test_a_run_of_unpinned_weights_is_not_published(
    own: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vtbench.runs.environment.commit", lambda: ("0" * 40, False))
    suite = ["run", "--suite", "mini", "--data", str(data), "--registry", str(own / "registry")]
    for name, out in (("identity", "pinned"), ("my-vae", "unpinned")):
        assert main([*suite, "-t", name, "--out", out, "--device", "cpu"]) == 0
    capsys.readouterr()
    assert main(["publish", "--results", "unpinned", "--to", "published"]) == 2
    said = capsys.readouterr().err
    assert "my-vae: not published: its weights are not pinned by revision and sha256" in said
    assert not Path("published").exists()
    assert main(["publish", "--results", "pinned", "--to", "published"]) == 0
    assert Path("published/identity/run.json").is_file()
