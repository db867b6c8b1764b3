"""A metric that a finished run lacks is measured alone; the run is then what a whole one would be."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import KillingListener

from vtbench.base.errors import ResultsError
from vtbench.images import encode_png, load_rgb8, pixel_sha256
from vtbench.metrics import haar_similarity
from vtbench.registry.entries import load_registry
from vtbench.results.folder import read_run
from vtbench.results.run_key import digest_key
from vtbench.runs import reconstruction
from vtbench.runs.outcome import Outcome
from vtbench.runs.request import Request
from vtbench.runs.runner import run_suite
from vtbench.suites import batches
from vtbench.suites.suites import load_suite
from vtbench.tokenizers import build_tokenizer
from vtbench.tokenizers.base import Tokenizer

pytestmark = pytest.mark.slow

COST = {"encode_s", "decode_s", "peak_memory_mib"}


def ask(
    data: Path, out: Path, *metrics: str, name: str = "patch-vq-f16", **changes: Any
) -> Request:
    """Return a request of the mini suite's photographs for a few quick metrics."""
    path = data / "suites" / "mini.yaml"
    text = path.read_text()
    quick = "[psnr_db, mae]}"
    for own in ("[psnr_db, mae, ssim, ms_ssim, lpips_alex, haarpsi, dists]}",):
        text = text.replace(own, quick)
    path.write_text(text)
    settings: dict[str, Any] = {
        "suite": load_suite("mini", [data]),
        "entries": (load_registry()[name],),
        "out": out,
        "tasks": ("reconstruction",),
        "device": "cpu",
        "metrics": metrics,
    }
    return Request(**(settings | changes))


def run(request: Request, **options: Any) -> Outcome:
    (outcome,) = run_suite(request, KillingListener(**options))
    return outcome


def without_cost(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in COST} for row in read_run(folder).rows]


class Spy:
    """Counts tokenizers that are built and batches that are encoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.built = self.encoded = 0
        build, encode = build_tokenizer, Tokenizer.encode

        def watch_build(*arguments: Any, **options: Any) -> Tokenizer:
            self.built += 1
            return build(*arguments, **options)

        def watch_encode(tokenizer: Tokenizer, images: torch.Tensor) -> Any:
            self.encoded += 1
            return encode(tokenizer, images)

        monkeypatch.setattr(reconstruction, "build_tokenizer", watch_build)
        monkeypatch.setattr(Tokenizer, "encode", watch_encode)


def test_a_metric_is_added_without_the_tokenizer_where_reconstructions_were_kept(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    first = run(ask(data, out, keep=True))
    assert first.status == "measured" and first.record is not None
    spy = Spy(monkeypatch)
    added = run(ask(data, out, "haarpsi", "ssim"))
    assert (added.status, spy.built, spy.encoded) == ("measured", 0, 0)
    assert added.reason is not None and "on kept reconstructions" in added.reason
    assert "haarpsi" in added.reason and "ssim" in added.reason
    run(ask(data, fresh, "haarpsi", "ssim"))
    assert spy.built == 1
    whole = read_run(fresh / "patch-vq-f16")
    part = read_run(out / "patch-vq-f16")
    assert without_cost(part.folder) == without_cost(whole.folder)
    names = [set(p.table.column_names) for p in (part, whole)]
    assert names[0] == names[1]
    assert part.record.key == whole.record.key == digest_key(part.record)
    assert part.record.protocol == whole.record.protocol
    assert (out / "patch-vq-f16" / "codes.parquet").read_bytes() == (
        fresh / "patch-vq-f16" / "codes.parquet"
    ).read_bytes()
    again = run(ask(data, out, "haarpsi", "ssim"))
    assert again.status == "reused"
    assert not [p for p in out.glob(".*") if p.suffix != ".lock"]


def test_without_kept_reconstructions_one_more_pass_measures_nothing_else(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    run(ask(data, out))
    before = {row["id"]: row for row in read_run(out / "patch-vq-f16").rows}
    spy = Spy(monkeypatch)
    from vtbench.metrics import pixel

    monkeypatch.setattr(pixel, "measure_psnr", None)  # what is there is not measured
    added = run(ask(data, out, "haarpsi"))
    monkeypatch.undo()
    assert added.status == "measured" and "in one more pass" in str(added.reason)
    assert spy.built == 1
    run(ask(data, fresh, "haarpsi"))
    assert without_cost(out / "patch-vq-f16") == without_cost(fresh / "patch-vq-f16")
    for row in read_run(out / "patch-vq-f16").rows:
        assert {k: row[k] for k in COST} == {k: before[row["id"]][k] for k in COST}


def test_what_a_run_has_beside_what_is_asked_for_stays(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(ask(data, out, "haarpsi", keep=True))
    spy = Spy(monkeypatch)
    assert run(ask(data, out)).status == "reused"
    assert run(ask(data, out, "ssim")).status == "measured"
    assert run(ask(data, out, "haarpsi")).status == "reused"
    assert spy.built == 0
    record = read_run(out / "patch-vq-f16").record
    assert record.protocol.extra == ("haarpsi", "ssim") and record.key == digest_key(record)
    assert all(row["haarpsi"] and row["ssim"] for row in read_run(out / "patch-vq-f16").rows)


@pytest.mark.parametrize("harm", ["other", "damaged", "gone", "link"])
def test_kept_files_that_are_not_the_rows_are_not_believed(
    data: Path, tmp_path: Path, harm: str
) -> None:
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    run(ask(data, out, keep=True))
    kept = out / "patch-vq-f16" / "reconstructions"
    file = kept / "photo-1.png"
    assert {path.name for path in kept.iterdir()} == {
        f"{name}.png" for name in ("photo-0", "photo-1", "photo-2", "photo-odd")
    }
    if harm == "other":
        pixels = load_rgb8(file).copy()
        pixels[0, 0, 0] ^= 1
        file.write_bytes(encode_png(pixels))
    elif harm == "damaged":
        file.write_bytes(file.read_bytes()[:60])
    else:
        content = file.read_bytes()
        file.unlink()
        if harm == "link":
            (tmp_path / "elsewhere.png").write_bytes(content)
            file.symlink_to(tmp_path / "elsewhere.png")
    added = run(ask(data, out, "haarpsi"))
    assert added.status == "measured" and "in one more pass" in str(added.reason)
    run(ask(data, fresh, "haarpsi"))
    assert without_cost(out / "patch-vq-f16") == without_cost(fresh / "patch-vq-f16")


def test_another_reconstruction_means_measuring_again_whole(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(ask(data, out, name="resize-2x"))
    decode = Tokenizer.decode

    def brighter(self: Tokenizer, code: Any) -> torch.Tensor:
        return decode(self, code) * 0.5 + 0.25

    monkeypatch.setattr(Tokenizer, "decode", brighter)
    added = run(ask(data, out, "haarpsi", name="resize-2x"))
    assert added.status == "measured"
    assert str(added.reason).startswith("measured again: photo-")
    for row in read_run(out / "resize-2x").rows:
        assert row["haarpsi"] is not None and row["psnr_db"] < 20


@pytest.mark.parametrize("change", ["code", "dtype", "fresh", "batch"])
def test_a_run_that_is_not_current_otherwise_is_measured_whole(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    out = tmp_path / "out"
    run(ask(data, out, keep=True))
    spy = Spy(monkeypatch)
    options: dict[str, Any] = {"fresh": True} if change == "fresh" else {}
    if change == "batch":
        options["batch_size"] = 3
    if change == "code":
        from vtbench.runs import provenance

        monkeypatch.setattr(provenance, "digest_code", lambda *_, **__: "0" * 64)
    if change == "dtype":
        path = data / "suites" / "mini.yaml"
        path.write_text(path.read_text().replace("seed: 0", "seed: 1"))
    done = run(ask(data, out, "haarpsi", **options))
    assert done.status == "measured" and spy.built == 1 and spy.encoded > 1
    assert not (out / "patch-vq-f16" / "reconstructions").exists()  # those were of the earlier rows


def test_a_killed_addition_goes_on(data: Path, tmp_path: Path) -> None:
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    run(ask(data, out, keep=True))
    before = (out / "patch-vq-f16" / "images.parquet").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        run(ask(data, out, "haarpsi"), kill_at=2)
    assert (out / "patch-vq-f16" / "images.parquet").read_bytes() == before
    (partial,) = out.glob(".*adding.jsonl")
    assert len(partial.read_text().splitlines()) == 2
    assert run(ask(data, out)).status == "reused"  # what was there is whole
    run(ask(data, out, "haarpsi"))
    run(ask(data, fresh, "haarpsi"))
    assert without_cost(out / "patch-vq-f16") == without_cost(fresh / "patch-vq-f16")


def test_a_metric_that_fails_leaves_the_run_as_it_was(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(ask(data, out, keep=True))
    before = {p.name: p.read_bytes() for p in (out / "patch-vq-f16").glob("*.*")}

    def fail(*_: Any) -> None:
        raise RuntimeError("no")

    from vtbench.metrics.catalogue import METRICS

    function = METRICS["haarpsi"].function.partition(":")[2]
    monkeypatch.setattr(haar_similarity, function, fail)
    done = run(ask(data, out, "haarpsi"))
    assert done.status == "failed" and "the run stays as it was" in str(done.reason)
    assert {p.name: p.read_bytes() for p in (out / "patch-vq-f16").glob("*.*")} == before
    assert not list(out.glob(".*adding*"))


def test_a_suite_of_ones_own_that_gained_a_metric_is_measured_for_it_alone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(ask(data, out, keep=True))
    path = data / "suites" / "mini.yaml"
    path.write_text(path.read_text().replace("[psnr_db, mae]", "[psnr_db, haarpsi, mae]"))
    spy = Spy(monkeypatch)
    done = run(ask(data, out))
    assert (done.status, spy.built) == ("measured", 0)
    assert all(row["haarpsi"] is not None for row in read_run(out / "patch-vq-f16").rows)
    assert run(ask(data, out)).status == "reused"


def test_a_metric_of_another_task_too_is_no_metric_of_that_run(data: Path, tmp_path: Path) -> None:
    # psnr_db is the suite's own everywhere, ssim of the task detail alone: asked for beside, it is
    # measured on photographs too, though the run has known the key before.
    out = tmp_path / "out"
    tasks = ("reconstruction", "detail")
    run(ask(data, out, tasks=tasks))
    assert all(
        row["ssim"] is None
        for row in read_run(out / "patch-vq-f16").rows
        if row["task"] == "reconstruction"
    )
    done = run(ask(data, out, "ssim", tasks=tasks))
    assert done.status == "measured" and "only ssim" in str(done.reason)
    assert all(row["ssim"] is not None for row in read_run(out / "patch-vq-f16").rows)


def test_reconstructions_of_a_finished_run_are_kept_when_asked_for(
    data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(ask(data, out))
    before = (out / "patch-vq-f16" / "images.parquet").read_bytes()
    done = run(ask(data, out, keep=True))
    assert done.status == "measured" and "reconstructions kept" in str(done.reason)
    assert (out / "patch-vq-f16" / "images.parquet").read_bytes() == before
    for row in read_run(out / "patch-vq-f16").rows:
        picture = load_rgb8(out / "patch-vq-f16" / "reconstructions" / f"{row['id']}.png")
        assert pixel_sha256(picture) == row["reconstruction_sha256"]
    assert run(ask(data, out, keep=True)).status == "reused"


def test_a_killed_run_that_keeps_goes_on_with_what_it_kept(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(ask(data, out, keep=True, batch_size=1), kill_at=2)
    spool = out / ".patch-vq-f16.reconstructions"
    assert len(list(spool.glob("*.png"))) >= 2
    next(spool.glob("*.png")).unlink()  # then its row is measured again
    run(ask(data, out, keep=True, batch_size=1))
    assert len(list((out / "patch-vq-f16" / "reconstructions").glob("*.png"))) == 4
    assert not spool.exists()


def test_a_metric_whose_weights_came_later_is_added(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vtbench.metrics import dists

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    out = tmp_path / "out"
    run(ask(data, out, "dists", keep=True))
    assert read_run(out / "patch-vq-f16").record.protocol.metrics["dists"].state == "missing"
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    for file in ("vgg16-397923af.pth", "dists-f5e65c96.pt"):
        (folder / file).write_bytes(b"")
    monkeypatch.setattr(
        dists,
        "Dists",
        lambda *_, device: lambda x, y: (x != y).double().mean(dim=(1, 2, 3)),
    )
    spy = Spy(monkeypatch)
    done = run(ask(data, out, "dists"))
    assert done.status == "measured" and "only dists" in str(done.reason) and spy.built == 0
    assert all(row["dists"] is not None for row in read_run(out / "patch-vq-f16").rows)


def test_what_needs_the_latents_takes_one_more_pass(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    registry = load_registry()
    name = next(n for n, e in registry.items() if n.startswith("patch") and e.kind == "continuous")
    run(ask(data, out, name=name, keep=True))
    done = run(ask(data, out, "psnr_q8_db", name=name))
    assert done.status == "measured" and "in one more pass" in str(done.reason)
    rows = read_run(out / name).rows
    assert all(row["psnr_q8_db"] is not None and row["q8_bits"] for row in rows)


def test_an_edited_run_is_refused_as_before(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(ask(data, out, keep=True))
    path = out / "patch-vq-f16" / "run.json"
    record = json.loads(path.read_text())
    record["key"] = hashlib.sha256(b"x").hexdigest()
    path.write_text(json.dumps(record))
    done = run(ask(data, out, "haarpsi"))
    assert str(done.reason).startswith("measured again: the protocol")
    with pytest.raises(ResultsError):
        (out / "patch-vq-f16" / "images.parquet").write_bytes(b"")
        read_run(out / "patch-vq-f16")


def test_originals_are_the_same_pixels_or_all_is_measured(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    request = ask(data, out, keep=True)
    samples = tuple(replace(sample, sha256=None) for sample in request.suite.samples)
    request = replace(request, suite=replace(request.suite, samples=samples))
    run(request)
    load = batches.load_pixels

    def other(sample: Any, *source: Any) -> Any:
        pixels = np.array(load(sample, *source))
        pixels[0, 0, 0] ^= 1
        return pixels

    monkeypatch.setattr(batches, "load_pixels", other)
    done = run(replace(request, metrics=("haarpsi",)))
    assert str(done.reason).startswith("measured again: photo-")
