"""Set metrics in the pass, with a small network in the Inception's place: what is measured once, what
is kept, what a kill leaves, what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import KillingListener
from torch import Tensor

from vtbench.base.errors import SuiteError
from vtbench.base.files import sha256_file
from vtbench.base.locations import cache_dir
from vtbench.images import encode_png, to_float, to_uint8
from vtbench.leaderboard.aggregate import read_board
from vtbench.leaderboard.csv_file import render_csv
from vtbench.leaderboard.markdown import render_markdown
from vtbench.metrics.catalogue import METRICS
from vtbench.metrics.distribution import Moments, frechet_distance, kernel_distance
from vtbench.metrics.features import VITS, cosine_similarity
from vtbench.metrics.inception import FidInceptionV3
from vtbench.metrics.vit import Shape, VisionTransformer
from vtbench.registry.entries import load_registry
from vtbench.results.folder import read_run
from vtbench.results.run_key import digest_key
from vtbench.results.schema import RunRecord
from vtbench.runs import reconstruction
from vtbench.runs import set_features as sets
from vtbench.runs.feature_files import Reference
from vtbench.runs.request import Request
from vtbench.runs.runner import run_suite
from vtbench.runs.set_features import FeatureSets, SetRun
from vtbench.suites.batches import load_pixels
from vtbench.suites.crops import change_crop, parse_crop
from vtbench.suites.suites import load_suite
from vtbench.tokenizers import build_tokenizer
from vtbench.tokenizers.base import DTYPES, Tokenizer
from vtbench.tokenizers.cost import list_networks
from vtbench.weights import metrics as metric_weights
from vtbench.weights.entries import WeightFiles

DIM = 2
KEYS = ("rfid", "kid", "rfid@clean-fid", "inception_score", "dinov2_cos")


class Colours:
    """Two features and three logits of a picture: means of its colours and edges."""

    seen: list[int] = []  # noqa: RUF012

    def __init__(self, name: str) -> None:
        self.name, self.dim, self.width = name, DIM, DIM + 3
        self.identity: Mapping[str, str] = {"colours.pth": "0" * 64}
        self.dtype = torch.float64 if name.endswith("float64") else torch.float32

    def __call__(self, images: Tensor) -> Tensor:
        Colours.seen.append(len(images))
        x = images.to(self.dtype) / 255
        edges = (x[..., 1:] - x[..., :-1]).abs().mean(dim=(1, 2, 3))
        return torch.stack([x[:, 0].mean((1, 2)), edges * 9, *x.mean((2, 3)).T], dim=1)


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Put the small network behind every feature metric, and the cache into a folder of its own."""

    def open_small(self: FeatureSets, key: str, *, with_logits: bool) -> str:
        source = sets.FEATURE_SOURCES[key]
        encoder = Colours(f"{source.network}.{source.resizing}.{source.dtype}")
        self._encoders.setdefault(encoder.name, encoder)
        self.networks |= encoder.identity
        return encoder.name

    monkeypatch.setattr(FeatureSets, "_open", open_small)
    small = {
        key: replace(metric, minimum_n=DIM + 1) if metric.minimum_n > 1 else metric
        for key, metric in METRICS.items()
    }
    monkeypatch.setattr(sets, "METRICS", small)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Colours.seen.clear()


def ask(
    data: Path, out: Path, *names: str, keys: tuple[str, ...] = KEYS, **changes: object
) -> Request:
    """Return a request of the mini suite with set metrics among its own."""
    path = data / "suites" / "mini.yaml"
    text = path.read_text()
    if "rfid" not in text:
        own = "reconstruction: {metrics: [psnr_db"
        assert own in text
        path.write_text(text.replace(own, f"{own}, {', '.join(keys)}"))
    suite, registry = load_suite("mini", [data]), load_registry()
    settings: dict[str, object] = {
        "suite": suite,
        "entries": tuple(registry[name] for name in names),
        "out": out,
        "tasks": ("reconstruction",),
        "device": "cpu",
    }
    return Request(**(settings | changes))  # type: ignore[arg-type]


def record_of(out: Path, name: str) -> RunRecord:
    return read_run(out / name).record


@pytest.mark.slow
@pytest.mark.usefixtures("colours")
def test_set_metrics_are_those_of_the_images_in_the_suites_order(
    data: Path, tmp_path: Path
) -> None:
    asked = ask(data, tmp_path / "out", "jpeg-q10")
    assert run_suite(asked, KillingListener())[0].status == "measured"
    record = record_of(tmp_path / "out", "jpeg-q10")
    tokenizer = build_tokenizer(asked.entries[0], device="cpu", dtype="fp32")
    net = Colours("by hand")
    reference, image, cosines = [], [], {}
    for sample in asked.samples():
        x = to_float([load_pixels(sample)])
        y = to_uint8(tokenizer.decode(tokenizer.encode(x)))
        reference.append(net(to_uint8(x)))
        image.append(net(y))
        cosines[sample.id] = cosine_similarity(reference[-1][:, :DIM], image[-1][:, :DIM])
    sides = [torch.cat(side).numpy()[:, :DIM] for side in (reference, image)]
    rfid = frechet_distance(*(Moments.of(side) for side in sides))
    assert rfid > 1e-5
    found = record.sets["reconstruction.rfid"]
    assert found.value == pytest.approx(rfid, rel=1e-9)  # the same float32 features
    assert (found.state, found.n, found.version) == ("measured", 4, 1)
    assert found.weights == {"colours.pth": "0" * 64} == record.protocol.networks
    assert found.warning is not None and "4 images" in found.warning
    assert record.sets["reconstruction.kid"].value == pytest.approx(
        kernel_distance(*sides).value, rel=1e-9
    )
    assert record.sets["reconstruction.kid"].warning is None
    assert record.sets["reconstruction.inception_score"].state == "not-applicable"  # ten splits
    for row in read_run(tmp_path / "out" / "jpeg-q10").rows:
        assert row["dinov2_cos"] == pytest.approx(float(cosines[row["id"]]), abs=1e-12)
        assert row["clip_cos"] is None
    # The mutant: one side in another order is other pairs, and another cosine.
    assert len({round(float(value), 6) for value in cosines.values()}) == 4
    assert not list((tmp_path / "out").glob(".*features*"))


@pytest.mark.slow
@pytest.mark.usefixtures("colours")
def test_originals_go_through_a_network_once_a_suite(data: Path, tmp_path: Path) -> None:
    keys = ("rfid", "rfid@torch-fidelity", "kid")  # one network and resizing, one pass
    run_suite(ask(data, tmp_path / "out", "jpeg-q10", keys=keys), KillingListener())
    assert sum(Colours.seen) == 2 * 4
    Colours.seen.clear()
    run_suite(
        ask(data, tmp_path / "out", "jpeg-q25", "resize-2x"), KillingListener()
    )  # another process
    assert sum(Colours.seen) == 2 * 4
    fresh = tmp_path / "cold"
    shutil.rmtree(cache_dir(), ignore_errors=True)
    run_suite(ask(data, fresh, "jpeg-q25"), KillingListener())
    cold, warm = (record_of(out, "jpeg-q25").sets for out in (fresh, tmp_path / "out"))
    assert cold == warm
    assert record_of(tmp_path / "out", "jpeg-q10").sets != warm


@pytest.mark.slow
@pytest.mark.usefixtures("colours")
def test_another_crop_has_a_reference_of_its_own(data: Path, tmp_path: Path) -> None:
    plain = ask(data, tmp_path / "out", "jpeg-q10")
    photos = tuple(sample for sample in plain.suite.samples if sample.task == "reconstruction")
    plain = replace(plain, suite=replace(plain.suite, samples=photos))
    cut = change_crop(plain.suite, parse_crop("adm-48"))
    assert cut.sha256 == plain.suite.sha256  # a run's name says which crop, not the protocol
    run_suite(plain, KillingListener())
    run_suite(replace(plain, suite=cut, out=tmp_path / "cut", crop="adm-48"), KillingListener())
    names = [p.name for p in (tmp_path / "cut").iterdir() if (p / "run.json").exists()]
    whole, part = record_of(plain.out, "jpeg-q10"), record_of(tmp_path / "cut", names[0])
    assert part.sets["reconstruction.rfid"].state == "measured"  # not of the other crop's pixels
    assert part.sets["reconstruction.rfid"].value != whole.sets["reconstruction.rfid"].value


@pytest.mark.slow
@pytest.mark.usefixtures("colours")
def test_batches_and_decoders_do_not_change_a_feature_or_a_distance(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of 1, 5 and 32, 0 and 2 decoders: to 1e-6, as float32 means of other batches differ."""
    rows, values, stored = [], [], []
    for size, workers in ((1, 0), (1, 2), (5, 0), (5, 2), (32, 0), (32, 2)):
        shutil.rmtree(cache_dir(), ignore_errors=True)
        out = tmp_path / f"{size}-{workers}"
        monkeypatch.setattr(Request, "decoders", property(lambda _, n=workers: n))
        run_suite(ask(data, out, "jpeg-q10", batch_size=size), KillingListener())
        run = read_run(out / "jpeg-q10")
        rows.append([(row["psnr_db"], row["dinov2_cos"]) for row in run.rows])
        sets_of_run = run.record.sets.values()
        values.append([own.value for own in sets_of_run if own.value is not None])
        assert (
            len(values[-1]) == 3
        )  # two rFIDs and KID; of so few images there is no Inception Score
        # The originals' features as they are stored, by network, in the suite's order.
        kept = sorted(
            cache_dir().glob("references/*.npy"), key=lambda path: path.name.split(".")[1:4]
        )
        stored.append([np.load(path, allow_pickle=False) for path in kept])
        assert len(kept) == 2
    for other in range(1, 6):
        assert np.allclose(rows[0], rows[other], rtol=0, atol=1e-6)
        assert values[other] == pytest.approx(values[0], rel=1e-6)
        for one, two in zip(stored[0], stored[other], strict=True):
            assert one.shape == two.shape and np.allclose(one, two, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("colours")
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_a_dtype_is_of_the_tokenizer_alone(
    dtype: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks, seen = [], []
    call, opened = Colours.__call__, reconstruction.build_tokenizer

    def open_and_keep(*args: Any, **options: Any) -> Tokenizer:
        networks.append(opened(*args, **options))
        return networks[-1]

    def look(self: Colours, images: Tensor) -> Tensor:
        seen.append((images.dtype, (found := call(self, images)).dtype))
        return found

    monkeypatch.setattr(reconstruction, "build_tokenizer", open_and_keep)
    monkeypatch.setattr(Colours, "__call__", look)
    for asked in (None, dtype):
        run_suite(ask(data, tmp_path, "ref-kl-f8", dtype=asked), KillingListener())
    plain, half = (read_run(tmp_path / name) for name in ("ref-kl-f8", f"ref-kl-f8@{dtype}"))
    assert (plain.record.protocol.dtype, half.record.protocol.dtype) == ("fp32", dtype)
    assert half.record.key == digest_key(half.record) != plain.record.key
    kinds = [
        {parameter.dtype for network in list_networks(own) for parameter in network.parameters()}
        for own in networks
    ]
    assert kinds == [{torch.float32}, {DTYPES[dtype]}]
    # Images and metrics stay as they are: 8-bit pixels in, float32 features and float64 values out.
    assert set(seen) == {(torch.uint8, torch.float32)}
    for one, other in zip(plain.rows, half.rows, strict=True):
        assert one["sha256"] == other["sha256"]
        assert one["reconstruction_sha256"] != other["reconstruction_sha256"]
        # 8 bits of bf16's mantissa: about a level, beside an error of many.
        assert other["psnr_db"] == pytest.approx(one["psnr_db"], abs=0.5)


@pytest.mark.slow
@pytest.mark.usefixtures("colours")
def test_float64_features_are_kept_as_such(data: Path, tmp_path: Path) -> None:
    keys = ("rfid", "rfid@float64")
    found = []
    for size in (1, 3):
        shutil.rmtree(cache_dir(), ignore_errors=True)
        asked = ask(data, tmp_path / str(size), "jpeg-q10", keys=keys, batch_size=size)
        run_suite(asked, KillingListener())
        found.append(record_of(tmp_path / str(size), "jpeg-q10").sets)
        kept = {np.load(path).dtype.name for path in cache_dir().rglob("*.npy")}
        assert kept == {"float32", "float64"}
    one, three = (sets["reconstruction.rfid@float64"].value for sets in found)
    assert one == pytest.approx(three, rel=1e-9)
    assert 0 < abs(float(one or 0) - float(found[0]["reconstruction.rfid"].value or 0)) < 1e-5


@pytest.mark.slow
@pytest.mark.usefixtures("colours")
@pytest.mark.parametrize("lost", ["nothing", "spool", "tail"])
def test_a_killed_run_goes_on_with_its_features(data: Path, tmp_path: Path, lost: str) -> None:
    run_suite(ask(data, tmp_path / "whole", "jpeg-q10", batch_size=1), KillingListener())
    whole = record_of(tmp_path / "whole", "jpeg-q10").sets
    shutil.rmtree(cache_dir(), ignore_errors=True)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_suite(ask(data, out, "jpeg-q10", batch_size=1), KillingListener(kill_at=2))
    spools = sorted((out / ".jpeg-q10.features").iterdir())
    assert {spool.name.split(".")[-1] for spool in spools} == {"images", "originals"}
    if lost == "spool":
        spools[0].unlink()
    elif lost == "tail":  # a kill between the features and the rows: more features than rows
        for spool in spools:
            spool.write_bytes(spool.read_bytes() + b"\x00" * 30)
    Colours.seen.clear()
    assert (
        run_suite(ask(data, out, "jpeg-q10", batch_size=1), KillingListener())[0].status
        == "measured"
    )
    # Three encoders (two resizings, one for the cosine), both sides, of what was still to do; the
    # originals' features for the cosine are kept as they come.
    assert sum(Colours.seen) == (3 * 2 * 4 - 2 if lost == "spool" else 3 * 2 * 2)
    assert record_of(out, "jpeg-q10").sets == whole
    assert [path.name for path in out.glob(".*")] == [".jpeg-q10.lock"]


@pytest.mark.slow
@pytest.mark.usefixtures("colours")
def test_what_is_no_set_is_refused_with_a_reason(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_suite(ask(data, tmp_path / "out", "identity", limit=2), KillingListener())
    limited = record_of(tmp_path / "out", "identity").sets["reconstruction.rfid"]
    assert (limited.state, limited.value) == ("not-applicable", None)
    assert "--limit" in str(limited.reason)
    assert not Colours.seen or max(Colours.seen) <= 2  # the cosine alone
    rfid = replace(METRICS["rfid"], minimum_n=5)  # there are four images
    monkeypatch.setattr(sets, "METRICS", {**METRICS, "rfid": rfid})
    run_suite(ask(data, tmp_path / "few", "identity"), KillingListener())
    few = record_of(tmp_path / "few", "identity").sets
    assert few["reconstruction.rfid"].state == "not-applicable"
    assert "at least 5" in str(few["reconstruction.rfid"].reason)
    assert few["reconstruction.kid"].state == "measured"  # it needs no covariance


@pytest.mark.slow
def test_missing_weights_are_missing_and_say_what_brings_them(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    monkeypatch.delenv("VTBENCH_WEIGHTS", raising=False)
    run_suite(ask(data, tmp_path / "out", "identity"), KillingListener())
    record = record_of(tmp_path / "out", "identity")
    assert record.complete
    kid = record.sets["reconstruction.kid"]
    assert (kid.state, kid.value) == ("missing", None)
    assert "vtbench fetch fid-inception" in str(kid.reason)
    assert "vtbench fetch dinov2-vitl14" in str(record.protocol.metrics["dinov2_cos"].reason)
    assert record.sets["reconstruction.rfid"].state == "not-applicable"  # 4 images, and no network


@pytest.mark.slow
@pytest.mark.usefixtures("colours")
def test_a_cached_reference_of_other_pixels_is_removed(data: Path, tmp_path: Path) -> None:
    run_suite(ask(data, tmp_path / "out", "jpeg-q10"), KillingListener())
    for path in cache_dir().rglob("*.json"):
        said = json.loads(path.read_text())
        said["pixels"]["photo-1"] = hashlib.sha256(b"another").hexdigest()
        path.write_text(json.dumps(said))
    run_suite(ask(data, tmp_path / "out", "jpeg-q25"), KillingListener())
    found = record_of(tmp_path / "out", "jpeg-q25").sets["reconstruction.rfid"]
    assert found.state == "failed" and "other pixels" in str(found.reason)
    assert not list(cache_dir().rglob("*.npy"))
    again = run_suite(ask(data, tmp_path / "out", "jpeg-q25"), KillingListener())[0]
    assert "a metric of the whole set had failed" in str(again.reason)
    assert record_of(tmp_path / "out", "jpeg-q25").sets["reconstruction.rfid"].state == "measured"


@pytest.mark.slow
@pytest.mark.usefixtures("colours")
def test_a_run_with_a_failed_image_has_no_distance(data: Path, tmp_path: Path) -> None:
    asked = ask(data, tmp_path / "out", "jpeg-q10")
    rows = [
        {"id": s.id, "task": s.task, "error": None, "sha256": "0" * 64} for s in asked.samples()
    ]
    rows[2]["error"] = "broken"
    keys = {task: asked.suite.protocol.tasks[task].metrics for task in asked.tasks}
    run = SetRun(FeatureSets(asked.suite, keys, device="cpu", limit=None), tmp_path / ".features")
    record = run.finish(rows)["reconstruction.rfid"]
    assert (record.state, record.reason, record.value) == ("failed", "1 of 4 images failed", None)


@pytest.mark.slow
@pytest.mark.usefixtures("colours")
def test_the_board_shows_a_distance_with_its_error_and_its_warning(
    data: Path, tmp_path: Path
) -> None:
    run_suite(ask(data, tmp_path / "out", "jpeg-q10", "jpeg-q50", "identity"), KillingListener())
    board = read_board(tmp_path / "out")
    cells = {line.name: line.cells["reconstruction.rfid"] for line in board.lines}
    assert cells["identity"].value == pytest.approx(0, abs=1e-9)
    for name in ("jpeg-q50", "jpeg-q10"):
        value = cells[name].value
        assert value is not None and value > 1e-4
    text = render_markdown(board, None)
    assert "rFID ↓" in text and "rFID@clean-fid ↓" in text and "DINOv2 cosine ↑" in text
    assert "from 4 images: biased upward" in text
    assert "Inception Score not-applicable in all runs, so it has no column" in text
    head, first = render_csv(board, None).splitlines()[:2]
    assert "reconstruction.rfid.se" in head.split(",")
    assert "kid" in head and first.startswith("local,")


@pytest.mark.slow
def test_the_networks_themselves_run_in_the_pass(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random weights at the places where the published ones are looked for."""
    folder = tmp_path / "weights"
    folder.mkdir()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inception, recipe = (
            FidInceptionV3(),
            replace(
                VITS["dinov2-vitl14"], shape=Shape(14, 2, 16, 1, 2, 1e-6, layer_scale=True), side=28
            ),
        )
        vit = VisionTransformer(recipe.shape)
        for parameter in vit.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    torch.save(inception.state_dict(), folder / "inception.pth")
    torch.save(vit.state_dict(), folder / "dinov2.pth")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("VTBENCH_WEIGHTS", str(folder))
    monkeypatch.setitem(VITS, "dinov2-vitl14", recipe)
    paths = {"fid-inception": folder / "inception.pth", "dinov2-vitl14": folder / "dinov2.pth"}
    stated = {name: sha256_file(path) for name, path in paths.items()}
    find = metric_weights.find_metric_weights
    monkeypatch.setattr(
        "vtbench.metrics.encoders.find_metric_weights",
        lambda name: WeightFiles(paths[name], (paths[name],)) if name in paths else find(name),
    )
    monkeypatch.setattr("vtbench.metrics.encoders.stated_sha256", stated.__getitem__)
    keys = ("rfid", "kid", "cmmd", "dinov2_cos")
    assert run_suite(ask(data, tmp_path / "out", "jpeg-q10", keys=keys), KillingListener())[
        0
    ].record
    run = read_run(tmp_path / "out" / "jpeg-q10")
    found = run.record.sets
    assert found["reconstruction.kid"].state == "measured"
    assert found["reconstruction.kid"].weights == {
        "inception.pth": sha256_file(folder / "inception.pth")
    }
    assert found["reconstruction.rfid"].state == "not-applicable"  # 4 images, 2048 features
    assert found["reconstruction.cmmd"].state == "missing"
    assert set(run.record.protocol.networks) == {"inception.pth", "dinov2.pth"}
    of_task = [row["dinov2_cos"] for row in run.rows if row["task"] == "reconstruction"]
    assert len(of_task) == 4 and all(0 < value < 1 for value in of_task)
    # Another file of the same name is another run, and one that is not pinned is refused.
    (folder / "dinov2.pth").write_bytes(b"")
    run_suite(ask(data, tmp_path / "out", "jpeg-q10", keys=keys), KillingListener())
    state = record_of(tmp_path / "out", "jpeg-q10").protocol.metrics["dinov2_cos"]
    assert state.state == "missing" and "does not start with" in str(state.reason)


def test_a_set_metric_is_of_reconstruction_alone(data: Path) -> None:
    path = data / "suites" / "mini.yaml"
    path.write_text(path.read_text().replace("cer, wer, ned]", "cer, wer, ned, rfid]"))
    with pytest.raises(SuiteError, match="rfid is of a whole set"):
        load_suite("mini", [data])
    path.write_text(path.read_text().replace("ned, rfid]", "ned, ssim@clean-fid]"))
    with pytest.raises(SuiteError, match="no metric named 'ssim@clean-fid'"):
        load_suite("mini", [data])


@pytest.mark.slow
def test_an_image_of_other_pixels_never_reaches_a_distance(data: Path, tmp_path: Path) -> None:
    (data / "mini" / "photo-1.png").write_bytes(encode_png(np.zeros((64, 64, 3), np.uint8)))
    with pytest.raises(SuiteError, match="photo-1"):
        run_suite(ask(data, tmp_path / "out", "identity"), KillingListener())


@pytest.mark.slow
@pytest.mark.usefixtures("colours")
def test_set_metrics_are_added_from_kept_reconstructions(data: Path, tmp_path: Path) -> None:
    first = ask(data, tmp_path / "out", "jpeg-q10", keys=("kid",), keep=True)
    run_suite(first, KillingListener())
    Colours.seen.clear()
    more = replace(first, keep=False, metrics=("rfid", "dinov2_cos"))
    (outcome,) = run_suite(more, KillingListener())
    assert outcome.status == "measured" and "on kept reconstructions" in str(outcome.reason)
    run_suite(replace(more, out=tmp_path / "whole"), KillingListener())
    found, fresh = (record_of(tmp_path / out, "jpeg-q10") for out in ("out", "whole"))
    assert found.sets == fresh.sets and found.key == fresh.key
    assert {"reconstruction.rfid", "reconstruction.kid"} == set(found.sets)
    rows = [read_run(tmp_path / out / "jpeg-q10").rows for out in ("out", "whole")]
    assert [r["dinov2_cos"] for r in rows[0]] == [r["dinov2_cos"] for r in rows[1]]
    Colours.seen.clear()
    (again,) = run_suite(more, KillingListener())
    assert again.status == "reused" and Colours.seen == []


def _damage_references() -> dict[str, Callable[[Path], object]]:
    def save(array: np.ndarray[Any, Any]) -> Callable[[Path], object]:
        """Write other features and their own digest."""

        def write(path: Path) -> None:
            np.save(path, array)
            said = json.loads(path.with_suffix(".json").read_bytes())
            said["features_sha256"] = sha256_file(path)
            path.with_suffix(".json").write_text(json.dumps(said))

        return write

    def put(content: bytes) -> Callable[[Path], object]:
        return lambda path: path.with_suffix(".json").write_bytes(content)

    def make_pipe(path: Path) -> None:
        path.unlink()
        os.mkfifo(path)

    return {
        "no features": lambda path: path.write_bytes(b""),
        "a cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
        "a flip": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x7f"),
        "a pipe": make_pipe,
        "a pipe beside": lambda path: make_pipe(path.with_suffix(".json")),
        "another width": save(np.zeros((2, 4), np.float32)),
        "other rows": save(np.zeros((3, 3), np.float32)),
        "integers": save(np.zeros((2, 3), np.int32)),
        "a list": put(b"[1, 2]"),
        "nothing": put(b""),
        "depth": put(b"[" * 100_000),
        "the form before": put(b'{"a": "1", "b": "2"}'),
    }


DAMAGES = _damage_references()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_reference_is_none(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.npy"
    Reference.write(path, np.ones((2, 3), np.float32), {"a": "1", "b": "2"})
    whole = Reference.open(path, 3)
    assert whole is not None and whole.pixels == {"a": "1", "b": "2"}
    DAMAGES[damage](path)
    assert Reference.open(path, 3) is None
