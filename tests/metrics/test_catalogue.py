"""The catalogue is complete, consistent with the code, and light."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vtbench.base.records import Metric
from vtbench.metrics.catalogue import METRIC_LISTS, METRICS
from vtbench.runs.meter import load_function
from vtbench.suites.suite_file import TaskProtocol
from vtbench.suites.suites import load_suite, suite_paths
from vtbench.weights.metrics import get_metric_weights


def test_every_metric_states_its_facts() -> None:
    for key, metric in METRICS.items():
        assert metric.key == key
        assert metric.version >= 1
        assert metric.label and metric.definition and metric.source and metric.pooled
        # What is measured of pixels says how equal it is on every device.
        if metric.takes in ("pair", "samples", "tiles", "features", "set", "quantized"):
            assert metric.tolerance is not None and 0 <= metric.tolerance <= 1e-4, key
    assert METRICS["ssim"].tolerance == 1e-6 and METRICS["psnr_db"].tolerance == 0


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_what_a_metric_names_exists(metric: Metric) -> None:
    if metric.takes in ("pair", "samples", "tiles", "ocr"):
        assert callable(load_function(metric))
    else:
        assert not metric.function
    for name in metric.weights:
        assert metric.key in get_metric_weights(name).metrics


def test_metrics_that_fill_one_column_agree_on_its_type() -> None:
    types: dict[str, set[str]] = {}
    for metric in METRICS.values():
        for column, kind in metric.row_columns.items():
            types.setdefault(column, set()).add(kind)
    assert {column for column, kinds in types.items() if len(kinds) > 1} == set()


@pytest.mark.slow
def test_every_metric_that_a_suite_names_is_in_the_catalogue() -> None:
    for name in suite_paths():
        for task in load_suite(name).protocol.tasks.values():
            assert set(task.metrics) <= set(METRICS)
    for keys in METRIC_LISTS.values():
        assert set(keys) <= set(METRICS)


def test_a_list_of_metrics_is_the_same_as_its_members() -> None:
    standard = METRIC_LISTS["standard@1"]
    assert TaskProtocol(metrics=("standard@1", "rfid")).metrics == (*standard, "rfid")
    assert TaskProtocol(metrics=("psnr_db", "standard@1")).metrics == standard


def test_the_texts_name_the_limits_of_the_code() -> None:
    from vtbench.metrics import dists, haar_similarity, perceptual, pixel, rate

    assert f"below {pixel.SSIM_MIN_SIDE} px" in METRICS["ssim"].definition
    assert f"below {pixel.MS_SSIM_MIN_SIDE} px" in METRICS["ms_ssim"].definition
    assert f"{pixel.PSNR_CAP_DB:.0f} dB" in METRICS["psnr_db"].definition
    assert f"below {haar_similarity.MIN_SIDE} px" in METRICS["haarpsi"].definition
    assert f"C {haar_similarity.C:.0f}, α {haar_similarity.ALPHA}" in METRICS["haarpsi"].definition
    assert f"below {dists.MIN_SIDE} px" in METRICS["dists"].definition
    assert rate.MAX_COUNTED == 2**20 and "2^20" in METRICS["codebook_usage"].definition
    for net, side in perceptual.MIN_SIDE.items():
        assert f"below {side} px" in METRICS[f"lpips_{net}"].definition


def imported_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.slow
def test_the_catalogue_imports_neither_torch_nor_numpy() -> None:
    assert not {"torch", "numpy"} & imported_by("import vtbench.metrics.catalogue")
    # The check sees an import when there is one.
    assert "numpy" in imported_by("import vtbench.metrics.catalogue, numpy")


@pytest.mark.slow
def test_detail_and_text_import_no_torch() -> None:
    modules = imported_by("import vtbench.metrics.detail, vtbench.metrics.text")
    assert not {"torch", "cv2", "rapidocr", "onnxruntime"} & modules
