"""The script for a GPU refuses a machine without one, and does its work on small pictures on the CPU."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from vtbench.base.locations import package_dir
from vtbench.registry.entries import load_registry

PATH = package_dir().parent / "benchmarks" / "gpu_throughput.py"

if not PATH.is_file():
    pytest.skip("benchmarks/ is in the repository alone", allow_module_level=True)


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_throughput", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def test_a_machine_without_a_gpu_is_refused(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert program.main([]) == 2
    assert "no CUDA device" in capsys.readouterr().err


@pytest.mark.slow
def test_its_five_architectures_take_the_three_sizes(program: ModuleType) -> None:
    entries = [load_registry(())[name] for name in program.NAMES]
    assert len({entry.family for entry in entries}) == 5
    for entry in entries:
        assert entry.size.fixed is None and "config" in entry.options
        assert all(size % entry.size.multiple == 0 for size in program.SIZES)


@pytest.mark.slow
def test_it_prints_the_devices_name_and_a_row_a_dtype_and_size(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "results.json"
    options = ["--device", "cpu", "--sizes", "32,64", "--names", "ref-kl-f8,ref-vq-f16"]
    assert program.main([*options, "--seconds", "0.01", "--json", str(kept)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("cpu, ") and "torch" in told.splitlines()[0]
    results = json.loads(kept.read_text())["results"]
    assert [(r["name"], r["dtype"], r["size"]) for r in results] == [
        (name, dtype, size)
        for name in ("ref-kl-f8", "ref-vq-f16")
        for dtype in ("bf16", "fp32")
        for size in (32, 64)
    ]
    assert all(r["bare"] > 0 and r["vtbench"] > 0 for r in results)
