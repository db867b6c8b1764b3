"""The pass: what is measured, what is reused, what a kill leaves, what a failure does."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import piq
import pytest
import torch
from builders import grating, page, photo
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from vtbench.base.errors import RegistryError, SuiteError
from vtbench.base.locations import data_dir
from vtbench.base.records import Spec
from vtbench.images import encode_png, pixel_sha256, to_uint8
from vtbench.metrics import dists
from vtbench.registry.entries import load_registry
from vtbench.results.folder import read_run, read_suite_folder
from vtbench.results.rows import Row
from vtbench.runs import reconstruction
from vtbench.runs.outcome import Outcome
from vtbench.runs.request import (
    EntrySelection,
    Request,
    change_size_policy,
    sample_posterior,
    vary_entries,
)
from vtbench.runs.runner import run_suite
from vtbench.suites.image_folder import folder_suite
from vtbench.suites.suites import load_suite
from vtbench.tokenizers import build_tokenizer
from vtbench.tokenizers.base import Code, Tokenizer
from vtbench.tokenizers.resample import Resample


class Quiet:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.images = 0
        self.outcomes: list[Outcome] = []

    def started(self, run: str, index: int, total: int, images: int) -> None:
        self.images = 0

    def advanced(self, images: int) -> None:
        self.images += images

    def finished(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


def request(data: Path, out: Path, *names: str, **changes: object) -> Request:
    suite = load_suite("mini", [data])
    registry = load_registry()
    settings: dict[str, object] = {
        "suite": suite,
        "entries": tuple(registry[name] for name in names),
        "out": out,
        "tasks": tuple(suite.protocol.tasks),
        "device": "cpu",
    }
    return Request(**(settings | changes))  # type: ignore[arg-type]


def rows_by_id(folder: Path) -> dict[str, Row]:
    return {row["id"]: row for row in read_run(folder).rows}


@pytest.mark.slow
def test_identity_scores_the_ceiling(data: Path, tmp_path: Path) -> None:
    listener = Quiet()
    outcomes = run_suite(request(data, tmp_path / "out", "identity"), listener)
    assert [outcome.status for outcome in outcomes] == ["measured"]
    assert listener.images == 6
    run = read_run(tmp_path / "out" / "identity")
    assert run.record.complete
    assert run.record.protocol.metrics["lpips_alex"].state in ("measured", "missing")
    for row in run.rows:
        assert row["error"] is None
        assert row["psnr_db"] == 100.0
        assert row["bits"] == 24 * row["width"] * row["height"]
    rows = rows_by_id(tmp_path / "out" / "identity")
    assert rows["photo-odd"]["ssim"] == 1.0
    assert rows["photo-odd"]["ms_ssim"] == 1.0
    assert (rows["photo-odd"]["mse"], rows["photo-odd"]["mae"]) == (0.0, 0.0)
    assert rows["photo-odd"]["haarpsi"] == 1.0
    assert rows["page"]["haarpsi"] is None  # not a metric of its task
    assert run.record.protocol.metrics["dists"].state in ("measured", "missing")
    assert run.record.codes is None  # pixels have no codewords
    assert rows["photo-0"]["ms_ssim"] is None  # 64 px: not applicable, not zero
    assert rows["chart"]["contrast_transfer"] == [1.0, 1.0]
    assert rows["chart"]["patch_cpp"] == [0.25, 0.5]
    text = rows["page"]
    assert text["reading"] == text["original_reading"]
    assert text["char_edits"] == text["original_char_edits"]
    assert text["chars"] == sum(len(line["text"]) for line in page()[1])  # type: ignore[arg-type]
    assert rows["photo-1"]["sha256"] == pixel_sha256(photo(1, 64, 64))


@pytest.mark.slow
def test_what_is_measured_is_the_8_bit_image(data: Path, tmp_path: Path) -> None:
    run_suite(request(data, tmp_path / "out", "jpeg-q25"), Quiet())
    row = rows_by_id(tmp_path / "out" / "jpeg-q25")["photo-odd"]
    path = tmp_path / "by-hand.jpg"
    original = photo(9, 181, 203)
    Image.fromarray(original).save(path, quality=25, subsampling="4:2:0")
    by_hand = np.asarray(Image.open(path))
    mse = np.mean((original.astype(float) - by_hand.astype(float)) ** 2)
    assert row["psnr_db"] == pytest.approx(10 * math.log10(255**2 / mse), abs=1e-9)
    assert row["mse"] == pytest.approx(mse, rel=1e-12)
    error = np.abs(original.astype(float) - by_hand.astype(float))
    assert row["mae"] == pytest.approx(error.mean(), rel=1e-12)
    x, y = (torch.tensor(a.copy()).permute(2, 0, 1)[None].double() for a in (original, by_hand))
    # piq's YIQ matrix has another last digit: tests/metrics/test_haarpsi.py
    assert row["haarpsi"] == pytest.approx(float(piq.haarpsi(x, y, data_range=255.0)), abs=2e-4)
    assert row["bits"] == 8 * path.stat().st_size


@pytest.mark.slow
def test_dists_is_measured_where_its_weights_are(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def open_dists(backbone: Path, factors: Path, *, device: str) -> Callable[..., Tensor]:
        opened.append((backbone.name, factors.name, device))
        return lambda original, image: (original != image).double().mean(dim=(1, 2, 3))

    monkeypatch.setattr(dists, "Dists", open_dists)
    for name, state in (("", "missing"), ("dists-f5e65c96.pt", "measured")):
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        folder = tmp_path / "hub" / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        for file in ("vgg16-397923af.pth", name or "other"):
            (folder / file).write_bytes(b"")
        run_suite(request(data, tmp_path / "out", "resize-2x"), Quiet())
        run = read_run(tmp_path / "out" / "resize-2x")
        metric = run.record.protocol.metrics["dists"]
        assert metric.state == state
        rows = {row["id"]: row["dists"] for row in run.rows}
        assert rows["page"] is None
        assert (rows["photo-0"] is not None) == (state == "measured")
    assert opened == [("vgg16-397923af.pth", "dists-f5e65c96.pt", "cpu")]


def tokens_by_hand(data: Path, side: int) -> dict[str, list[int]]:
    """Return each image's nearest codewords of patch-vq, by loops over its patches."""
    codebook = load_file(data_dir() / "weights" / f"patch-vq-f{side}.safetensors")["codebook"]
    words = codebook.double()
    found = {}
    for path in sorted((data / "mini").glob("*.png")):
        image = np.asarray(Image.open(path).convert("RGB")).astype(np.float64) / 127.5 - 1
        down, right = (-image.shape[axis] % side for axis in (0, 1))
        image = np.pad(image, ((0, down), (0, right), (0, 0)), mode="reflect")
        tokens = []
        for top in range(0, image.shape[0], side):
            for left in range(0, image.shape[1], side):
                patch = image[top : top + side, left : left + side].transpose(2, 0, 1)
                distance = (words - torch.tensor(patch.reshape(-1))).square().sum(dim=1)
                tokens.append(int(distance.argmin()))
        found[path.stem] = tokens
    return found


@pytest.mark.slow
def test_codewords_are_counted_over_all_images(data: Path, tmp_path: Path) -> None:
    # Once each: what is encoded again for the warm-up is not counted again.
    run_suite(request(data, tmp_path, "patch-vq-f16"), Quiet())
    run = read_run(tmp_path / "patch-vq-f16")
    by_hand = tokens_by_hand(data, 16)
    counts = Counter(token for tokens in by_hand.values() for token in tokens)
    (codes,) = run.codes
    assert dict(zip(codes.symbols.tolist(), codes.counts.tolist(), strict=True)) == counts
    assert run.record.codes is not None
    assert run.record.codes.images == 6
    assert run.record.codes.codebooks[0].size == load_registry()["patch-vq-f16"].codebook_size
    assert run.record.codes.codebooks[0].tokens == sum(row["tokens"] for row in run.rows)
    for row in run.rows:
        tokens = by_hand[row["id"]]
        ideal = sum(math.log2(counts.total() / counts[token]) for token in tokens)
        assert row["entropy_bits"] == pytest.approx(ideal, rel=1e-12)
        assert row["tokens"] == len(tokens)


@pytest.mark.slow
def test_a_killed_run_loses_no_counts(data: Path, tmp_path: Path) -> None:
    run_suite(request(data, tmp_path / "whole", "patch-vq-f8"), Quiet())

    class Killed(Quiet):
        def advanced(self, images: int) -> None:
            super().advanced(images)
            if self.images >= 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_suite(request(data, tmp_path / "out", "patch-vq-f8"), Killed())
    (partial,) = (tmp_path / "out").glob(".*partial*")
    assert '"codes"' in partial.read_text()
    run_suite(request(data, tmp_path / "out", "patch-vq-f8"), Quiet())
    files = [tmp_path / base / "patch-vq-f8" / "codes.parquet" for base in ("whole", "out")]
    assert files[0].read_bytes() == files[1].read_bytes()
    lengths = [
        {name: row["entropy_bits"] for name, row in rows_by_id(file.parent).items()}
        for file in files
    ]
    assert lengths[0] == lengths[1]


class Wandering(Tokenizer):
    """Its codebook has another size in every picture of another size."""

    def _encode(self, images: Tensor) -> Code:
        return Code.discrete(images[:, 0].round().long(), images.shape[-1])

    def _decode(self, code: Code) -> Tensor:
        assert isinstance(code.indices, Tensor)
        return code.indices[:, None].expand(-1, 3, -1, -1).float()


class Outside(Wandering):
    def _encode(self, images: Tensor) -> Code:
        return Code.discrete(images[:, 0].round().long() + 1, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (Wandering, "tokens cannot be counted: two images were encoded with different codebooks"),
        (Outside, "token 2 is outside the codebook of 2"),
    ],
)
def test_tokens_that_cannot_be_counted_are_named(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tokenizer: type[Tokenizer],
    message: str,
) -> None:
    spec = Spec(name="x", family="t", kind="discrete", quantizer="none", codebook_size=2)
    monkeypatch.setattr(reconstruction, "build_tokenizer", lambda *a, **k: tokenizer(spec))
    outcome = run_suite(request(data, tmp_path, "identity"), Quiet())[0]
    assert outcome.status == "failed"
    assert message in str(outcome.reason)


@pytest.mark.slow
def test_latents_in_8_bits_are_decoded_where_the_task_asks(data: Path, tmp_path: Path) -> None:
    run_suite(request(data, tmp_path / "plain", "patch-pca-f8c4"), Quiet())
    plain = rows_by_id(tmp_path / "plain" / "patch-pca-f8c4")
    assert {row["psnr_q8_db"] for row in plain.values()} == {None}
    path = data / "suites" / "mini.yaml"
    path.write_text(path.read_text().replace("haarpsi, dists", "haarpsi, psnr_q8_db"))
    run_suite(request(data, tmp_path, "patch-pca-f8c4", "patch-vq-f8", "identity"), Quiet())
    rows = rows_by_id(tmp_path / "patch-pca-f8c4")
    tokenizer = build_tokenizer(load_registry()["patch-pca-f8c4"], device="cpu")
    for name in ("photo-0", "photo-odd"):
        pixels = np.asarray(Image.open(data / "mini" / f"{name}.png"))
        original = torch.tensor(pixels.copy()).permute(2, 0, 1)[None]
        code = tokenizer.encode(original / 255.0)
        image = to_uint8(tokenizer.decode(code.quantize_8bit()))
        mse = float((image.double() - original.double()).square().mean())
        # float32 sums in another order may move a pixel over a rounding edge: one level, rarely
        expected = pytest.approx(10 * math.log10(255**2 / mse), abs=1e-3)
        assert rows[name]["psnr_q8_db"] == expected
        assert rows[name]["q8_bits"] == 8 * rows[name]["tokens"] * 4 + 4 * 64
        assert rows[name]["psnr_db"] == plain[name]["psnr_db"]
        assert rows[name]["psnr_q8_db"] != rows[name]["psnr_db"]
    assert rows["page"]["psnr_q8_db"] is None  # its task does not ask
    for other in ("patch-vq-f8", "identity"):  # no continuous latents
        assert {r["psnr_q8_db"] for r in rows_by_id(tmp_path / other).values()} == {None}


@pytest.mark.slow
def test_a_finished_run_is_reused_and_fresh_is_not(data: Path, tmp_path: Path) -> None:
    asked = request(data, tmp_path / "out", "resize-2x")
    run_suite(asked, Quiet())
    before = (tmp_path / "out" / "resize-2x" / "run.json").read_bytes()
    assert run_suite(asked, Quiet())[0].status == "reused"
    assert (tmp_path / "out" / "resize-2x" / "run.json").read_bytes() == before
    fresh = request(data, tmp_path / "out", "resize-2x", fresh=True)
    assert run_suite(fresh, Quiet())[0].status == "measured"


@pytest.mark.slow
def test_a_changed_protocol_or_edited_rows_are_measured_again(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_suite(request(data, out, "resize-2x"), Quiet())
    path = data / "suites" / "mini.yaml"
    path.write_text(path.read_text().replace("seed: 0", "seed: 1"))
    again = run_suite(request(data, out, "resize-2x"), Quiet())[0]
    assert again.status == "measured"
    assert "has changed" in str(again.reason)
    (out / "resize-2x" / "images.parquet").write_bytes(b"torn")
    again = run_suite(request(data, out, "resize-2x"), Quiet())[0]
    assert again.status == "measured"
    assert "edited" in str(again.reason)


@pytest.mark.slow
def test_a_killed_run_goes_on_and_gives_the_same_rows(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_suite(request(data, tmp_path / "whole", "resize-2x"), Quiet())
    whole = rows_by_id(tmp_path / "whole" / "resize-2x")

    class Killed(Quiet):
        def advanced(self, images: int) -> None:
            super().advanced(images)
            if self.images >= 3:
                raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_suite(request(data, out, "resize-2x"), Killed())
    assert not (out / "resize-2x" / "run.json").exists()

    calls = []
    original = Resample._encode

    def count(self: Resample, images: Tensor) -> Code:
        calls.append(len(images))
        return original(self, images)

    monkeypatch.setattr(Resample, "_encode", count)
    assert run_suite(request(data, out, "resize-2x"), Quiet())[0].status == "measured"
    assert sum(calls) < 6 + 2 + 1  # neither the first batches again, nor all of the panel
    resumed = rows_by_id(out / "resize-2x")
    timed = {"encode_s", "decode_s", "peak_memory_mib", "batch_size"}
    for name, row in whole.items():
        for key in set(row) - timed:
            assert resumed[name][key] == row[key], (name, key)
    panels = [tmp_path / base / "resize-2x" / "panel" for base in ("whole", "out")]
    for file in ("0.png", "1.png"):
        assert (panels[0] / file).read_bytes() == (panels[1] / file).read_bytes()
    assert not list(out.glob(".*partial*"))


@pytest.mark.slow
def test_batch_size_does_not_change_a_number(data: Path, tmp_path: Path) -> None:
    for size in (1, 3):
        out = tmp_path / str(size)
        run_suite(request(data, out, "patch-pca-f8c4", batch_size=size), Quiet())
    one, three = (rows_by_id(tmp_path / str(size) / "patch-pca-f8c4") for size in (1, 3))
    assert three["photo-0"]["batch_size"] == 3
    for name, row in one.items():
        # float32 sums in another order may move a pixel over a rounding edge: one level, rarely
        assert three[name]["psnr_db"] == pytest.approx(row["psnr_db"], abs=1e-3)


class Broken(Tokenizer):
    """Base of tokenizers that go wrong on the picture of 181×203."""

    def _encode(self, images: Tensor) -> Code:
        return Code.continuous(images)

    def _decode(self, code: Code) -> Tensor:
        assert code.latents is not None
        return self.spoil(code.latents) if code.latents.shape[-1] == 203 else code.latents

    def spoil(self, images: Tensor) -> Tensor:
        raise RuntimeError("no kernel for this size\nsecond line")


class NotANumber(Broken):
    def spoil(self, images: Tensor) -> Tensor:
        return images * float("nan")


class WrongSize(Broken):
    def decode(self, code: Code) -> Tensor:
        decoded = super().decode(code)
        return decoded[..., :202] if decoded.shape[-1] == 203 else decoded

    def spoil(self, images: Tensor) -> Tensor:
        return images


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (Broken, "RuntimeError: no kernel for this size"),
        (NotANumber, "NaN or infinite"),
        (WrongSize, "wrong size"),
    ],
)
def test_a_failing_image_is_named_and_the_others_go_on(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tokenizer: Callable[..., Tokenizer],
    message: str,
) -> None:
    spec = Spec(name="x", family="t", kind="continuous", quantizer="none", latent_channels=3)
    monkeypatch.setattr(
        reconstruction, "build_tokenizer", lambda *a, **k: tokenizer(spec, dtype=torch.float32)
    )
    outcome = run_suite(request(data, tmp_path / "out", "identity"), Quiet())[0]
    assert outcome.status == "failed"
    assert message in str(outcome.reason)
    run = read_run(tmp_path / "out" / "identity")
    assert [failure.id for failure in run.record.failures] == ["photo-odd"]
    assert run.record.n_done == 5
    assert not run.record.complete
    row = {row["id"]: row for row in run.rows}["photo-odd"]
    assert row["psnr_db"] is None
    again = run_suite(request(data, tmp_path / "out", "identity"), Quiet())[0]
    assert again.status == "failed"  # a failed run is no result to reuse


@pytest.mark.slow
def test_a_tokenizer_that_always_fails_is_reported_and_the_next_one_runs(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Resample, images: Tensor) -> Code:
        raise RuntimeError("no kernel")

    monkeypatch.setattr(Resample, "_encode", fail)
    outcomes = run_suite(request(data, tmp_path / "out", "resize-2x", "jpeg-q50"), Quiet())
    assert [outcome.status for outcome in outcomes] == ["failed", "measured"]
    assert "6 of 6 images failed" in str(outcomes[0].reason)


@pytest.mark.slow
def test_an_image_that_is_not_the_pinned_one_stops_the_run(data: Path, tmp_path: Path) -> None:
    (data / "mini" / "photo-1.png").write_bytes(encode_png(grating()[0][:64, :64]))
    with pytest.raises(SuiteError, match="photo-1"):
        run_suite(request(data, tmp_path / "out", "identity"), Quiet())


@pytest.mark.slow
def test_partial_requests_say_so(data: Path, tmp_path: Path) -> None:
    asked = request(data, tmp_path, "identity", limit=1)
    assert asked.partial
    assert [sample.task for sample in asked.samples()] == ["reconstruction", "detail", "text"]
    assert request(data, tmp_path, "identity", tasks=("text",)).partial
    assert not request(data, tmp_path, "identity").partial
    run_suite(asked, Quiet())
    assert not read_run(tmp_path / "identity").record.complete


@pytest.mark.slow
def test_a_run_computes_without_tf32_and_leaves_the_flags_as_they_were(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn

    def flags() -> tuple[bool, ...]:
        return cuda.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark

    seen = []
    original = Resample._encode

    def look(self: Resample, images: Tensor) -> Code:
        seen.append(flags())
        return original(self, images)

    monkeypatch.setattr(Resample, "_encode", look)
    before = flags()
    try:
        cuda.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = 4 * (True,)
        run_suite(request(data, tmp_path, "resize-2x"), Quiet())
        assert set(seen) == {(False, False, True, False)}
        assert flags() == (True, True, True, True)
    finally:
        cuda.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = before


@pytest.mark.slow
def test_deviations_are_in_the_runs_name(data: Path, tmp_path: Path) -> None:
    asked = request(data, tmp_path, "patch-pca-f8c4", dtype="bf16")
    assert asked.run_name(asked.entries[0]) == "patch-pca-f8c4@bf16"
    same = request(data, tmp_path, "patch-pca-f8c4", dtype="fp32")
    assert same.run_name(same.entries[0]) == "patch-pca-f8c4"


@pytest.mark.slow
def test_a_sampled_posterior_is_another_row(tmp_path: Path, data: Path) -> None:
    registry = load_registry()
    sampled = sample_posterior(registry["sd-vae-ft-mse"])
    asked = request(data, tmp_path, entries=(sampled, registry["sd-vae-ft-mse"]), dtype="bf16")
    names = [asked.run_name(entry) for entry, _ in asked.cells()]
    assert names == ["sd-vae-ft-mse@posterior-sample+bf16", "sd-vae-ft-mse@bf16"]
    assert sampled.sha256 != registry["sd-vae-ft-mse"].sha256
    assert (sampled.posterior, registry["sd-vae-ft-mse"].posterior) == ("sample", "mode")
    assert registry["jpeg-q50"].posterior is None and sampled.stochastic
    seeds = (0, 1)
    protocol = asked.suite.protocol.model_copy(update={"seeds": seeds})
    seeded = request(
        data, tmp_path, entries=asked.entries, suite=replace(asked.suite, protocol=protocol)
    )
    assert [seed for entry, seed in seeded.cells() if entry is sampled] == [0, 1]
    for name, why in (("jpeg-q50", "it has no posterior"), ("taesd", "it has no posterior")):
        with pytest.raises(RegistryError, match=why):
            sample_posterior(registry[name])
    with pytest.raises(RegistryError, match="takes a sample already"):
        sample_posterior(sampled)


@pytest.mark.slow
def test_the_other_size_policy_is_another_row(data: Path, tmp_path: Path) -> None:
    registry = load_registry()
    fixed = registry["var-256"]
    tiled = change_size_policy(fixed, "tile")
    assert request(data, tmp_path, entries=(tiled,)).run_name(tiled) == "var-256@tile"
    assert tiled.spec.size == replace(fixed.spec.size, policy="tile")
    assert tiled.sha256 != fixed.sha256
    assert change_size_policy(fixed, "resize") is fixed
    with pytest.raises(RegistryError, match="jpeg-q50: --size-policy tile: it takes images of any"):
        change_size_policy(registry["jpeg-q50"], "tile")


def test_what_has_no_posterior_is_skipped_unless_it_was_named() -> None:
    registry = load_registry()
    chosen = EntrySelection(
        (registry["jpeg-q50"], registry["sd-vae-ft-mse"], registry["identity"]), ()
    )
    changed = vary_entries(chosen, ("sd-vae-ft-mse",), "posterior-sample", sample_posterior)
    assert [entry.row_name for entry in changed.entries] == ["sd-vae-ft-mse@posterior-sample"]
    assert [(s.name, s.reason) for s in changed.skipped] == [
        ("jpeg-q50@posterior-sample", "--posterior sample: it has no posterior"),
        ("identity@posterior-sample", "--posterior sample: it has no posterior"),
    ]
    with pytest.raises(RegistryError, match="jpeg-q50: --posterior sample: it has no"):
        vary_entries(chosen, ("jpeg-q50",), "x", sample_posterior)
    with pytest.raises(RegistryError, match="jpeg-q50: --posterior sample: it has no"):
        vary_entries(EntrySelection((chosen.entries[0],), ()), (), "x", sample_posterior)


def test_a_folder_of_ones_own_with_every_kind_of_picture(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture = Image.fromarray(photo(0, 40, 50))
    picture.save(folder / "rgb.jpg")
    picture.convert("L").save(folder / "gray.png")
    picture.quantize(8).save(folder / "palette.png")
    picture.convert("CMYK").save(folder / "cmyk.tiff")
    picture.crop((0, 0, 1, 1)).save(folder / "pixel.png")
    (folder / "torn.png").write_bytes((folder / "gray.png").read_bytes()[:60])
    suite = folder_suite(folder)
    asked = Request(
        suite=suite,
        entries=(load_registry()["jpeg-q50"],),
        out=tmp_path / "out",
        tasks=("reconstruction",),
        device="cpu",
    )
    outcome = run_suite(asked, Quiet())[0]
    assert outcome.status == "measured"
    assert [failure.id for failure in outcome.unreadable] == ["torn.png"]
    run = read_run(tmp_path / "out" / "jpeg-q50")
    assert [failure.id for failure in run.record.failures] == ["torn.png"]
    rows = {row["id"]: row for row in run.rows}
    assert rows["pixel.png"]["psnr_db"] is not None
    assert rows["pixel.png"]["ssim"] is None
    assert (rows["cmyk.tiff"]["width"], rows["cmyk.tiff"]["height"]) == (50, 40)
    assert not read_suite_folder(tmp_path / "out").published
