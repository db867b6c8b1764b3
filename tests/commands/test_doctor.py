"""What doctor says on a machine without weights, with some, and with a damaged one."""

from __future__ import annotations

import re
import types
from pathlib import Path

import pytest

from vtbench.cli import main
from vtbench.commands.doctor import examine_weights, switched_off
from vtbench.commands.fetch import choose_weights, suite_weights
from vtbench.metrics.catalogue import METRICS
from vtbench.suites.suites import load_suite
from vtbench.weights.metrics import MetricWeights, metric_weights


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with packages and without weights; returns torch.hub's folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("EASYOCR_MODULE_PATH", str(tmp_path / "easyocr"))
    monkeypatch.delenv("VTBENCH_WEIGHTS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "torch" / "hub" / "checkpoints"


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["doctor", *arguments]) == 0
    return capsys.readouterr().out


def test_the_embedded_suite_lacks_lpips_and_one_fetch_brings_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = report(capsys, "--suite", "embedded")
    off = [line for line in said.splitlines() if "off:" in line]
    version = load_suite("embedded").protocol.version
    assert off == [f"suite embedded@{version}: off: lpips_alex, lpips_vgg, dists"]
    assert "`vtbench fetch --suite embedded` brings them (798 MB)" in said
    assert re.findall(r"`(.*?)`", said) == ["vtbench fetch --suite embedded"]
    fetched = [
        entry
        for entry in choose_weights((), "embedded", (), ())
        if isinstance(entry, MetricWeights)
    ]
    assert [entry.key for entry in fetched] == ["lpips-alex", "lpips-vgg", "dists"]


@pytest.mark.slow
def test_what_is_off_is_what_a_run_then_misses(data: Path) -> None:
    """The mutant: a suite whose weights the doctor forgets would show the metric as missing."""
    from vtbench.runs.meter import Meter

    suite = load_suite("mini", [data])
    off = switched_off(suite, examine_weights(metric_weights().values(), verify=False))
    meter = Meter(suite, list(suite.protocol.tasks), device="cpu", ocr=suite.protocol.ocr)
    assert {key for key, record in meter.states.items() if record.state == "missing"} == set(off)
    assert set(off) == {"lpips_alex", "dists"}
    for metric, lacks in off.items():
        # A run stops at the first file that it lacks; the doctor names all of them.
        assert f"`{lacks[0].entry.command}`" in str(meter.states[metric].reason)


def test_with_the_files_here_nothing_is_off_and_verify_reads_them(
    bare: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare.mkdir(parents=True)
    for name in ("alexnet-owt-7be5be79.pth", "vgg16-397923af.pth", "dists-f5e65c96.pt"):
        (bare / name).write_bytes(b"other")
    said = report(capsys, "--suite", "embedded")
    assert "every metric can be measured" in said and "off:" not in said
    said = report(capsys, "--suite", "embedded", "--verify")
    assert "off: lpips_alex, lpips_vgg, dists" in said
    assert re.search(r"lpips-alex +damaged .* not 7be5be791159…", said)


def test_a_wheel_that_is_not_here_is_pips_to_bring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = types.SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr("vtbench.weights.metrics.find_spec", lambda _: elsewhere)
    said = report(capsys, "--suite", "embedded")
    assert "off: lpips_alex, lpips_vgg, dists, cer, wer, ned" in said
    assert '`pip install --force-reinstall "rapidocr==3.10.*"` brings rapidocr' in said
    monkeypatch.setattr("vtbench.weights.metrics.find_spec", lambda _: None)
    assert re.search(r"rapidocr +missing", report(capsys, "--suite", "embedded"))


@pytest.mark.slow
def test_everything(capsys: pytest.CaptureFixture[str]) -> None:
    said = report(capsys)
    for key in metric_weights():
        assert re.search(rf"^{re.escape(key)} +(here|missing) ", said, re.MULTILINE), key
    assert re.search(r"tokenizers: \d+ of \d+ can run here", said)
    assert "sd-vae-ft-mse" in said and "sd3.5-vae (gated)" in said and "jpeg-q50" not in said
    assert re.search(r"^torch +\d+\.\d+", said, re.MULTILINE)
    assert main(["doctor", "--suite", "no-such-suite"]) == 2


def test_metrics_of_the_catalogue_exist() -> None:
    named = {metric for entry in metric_weights().values() for metric in entry.metrics}
    assert named <= set(METRICS)
    assert {"lpips_alex", "lpips_vgg", "cer"} <= named & set(METRICS)
    assert [entry.key for entry in suite_weights(load_suite("embedded"))] == [
        "lpips-alex",
        "lpips-vgg",
        "lpips-heads",
        "dists",
        "rapidocr",
    ]
