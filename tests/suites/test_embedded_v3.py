"""embedded@3 beside embedded@2: it loads, its rows are those that it is made of, it runs."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path

import pytest

from vtbench.base.errors import SuiteError
from vtbench.base.locations import data_dir, local_dir, published_dir
from vtbench.cli import main
from vtbench.commands.audit import folder as audit_folder
from vtbench.commands.audit.publishing import find_target
from vtbench.leaderboard.detail_pools import find_blindness, find_transfer_limit
from vtbench.registry.entries import load_registry
from vtbench.results.folder import read_run, read_suite_folder
from vtbench.runs.planning import plan_run
from vtbench.suites.suites import load_suite


def test_both_versions_load_and_the_plain_name_is_the_published_one() -> None:
    second, third = load_suite("embedded@2"), load_suite("embedded@3")
    assert load_suite("embedded").sha256 == second.sha256 != third.sha256
    assert (second.name, second.folder) == ("embedded", "embedded")
    assert (third.name, third.folder, third.protocol.version) == ("embedded", "embedded@3", 3)
    with pytest.raises(SuiteError, match="version 2, not 4"):
        load_suite("embedded@4")


def test_its_rows_are_those_of_the_suites_it_is_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(data_dir() / "embedded"))
    maker = importlib.import_module("compose_v3")
    names = [row["id"] for row in maker.compose_rows()]
    monkeypatch.delitem(sys.modules, "compose_v3")
    samples = load_suite("embedded@3").samples
    assert [sample.id for sample in samples] == names
    others = ("embedded", "detail", "text-multilingual")
    known = {sample.id: sample for name in others for sample in load_suite(name).samples}
    assert all(known[s.id].sha256 == s.sha256 and known[s.id].path == s.path for s in samples)
    assert {s.meta["script"] for s in samples if s.task == "text"} == {
        "latin",
        "chinese",
        "japanese",
    }


def test_its_gratings_give_a_limit_and_the_blindness_of_strides_8_and_16() -> None:
    rows = []
    for sample in load_suite("embedded@3").samples:
        if sample.meta.get("chart") == "wave":
            waves = [patch["wave"] for patch in sample.meta["patches"]]
            gains = [math.exp(-6 * math.hypot(*wave)) for wave in waves]
            columns = {"wave_x": [w[0] for w in waves], "wave_y": [w[1] for w in waves]}
            more = {"wave_gain": gains, "wave_alias": [0.0] * len(waves)}
            rows.append({"subset": sample.subset, **columns, **more})
    limit = find_transfer_limit(rows, level=0.5)
    assert limit is not None and limit.value == pytest.approx(math.log(2) / 6, rel=0.03)
    for stride in (8, 16):
        found = find_blindness(rows, stride=stride)
        assert [round(period, 2) for period in found][:2] == [stride, stride / 2]
        # exp is convex: cosh of the sidestep's exponent, 0.002.
        assert all(value is not None and abs(value) < 0.003 for value in list(found.values())[:2])
    with pytest.raises(LookupError):
        find_blindness(rows, stride=14)


def test_its_results_have_a_folder_of_their_own() -> None:
    request = plan_run(load_suite("embedded@3"), load_registry(), names=("identity",))
    assert request.out == local_dir("embedded@3") != local_dir("embedded")


@pytest.mark.slow
def test_it_is_published_beside_the_current_version_and_never_into_it() -> None:
    second = read_suite_folder(published_dir("embedded"))
    third = second.model_copy(update={"version": 3})
    assert find_target(second) == published_dir("embedded")
    assert find_target(third) == published_dir("embedded@3")
    # And what is there is compared with its own protocol, or with none.
    for folder, name in ((second, "embedded"), (third, "embedded@3")):
        suite = audit_folder.find_suite(folder, ())
        assert suite is not None and suite.sha256 == load_suite(name).sha256
    assert audit_folder.find_suite(second.model_copy(update={"version": 9}), ()) is None


@pytest.mark.slow
def test_it_runs(tmp_path: Path) -> None:
    out = tmp_path / "v3"
    asked = ["run", "--suite", "embedded@3", "-t", "jpeg-q50", "--limit", "3", "--out", str(out)]
    assert main(asked) == 0
    run = read_run(out / "jpeg-q50")
    assert (run.record.suite.name, run.record.suite.version) == ("embedded", 3)
    assert {row["task"] for row in run.rows} == {"reconstruction", "detail", "text"}
    assert all(row["error"] is None for row in run.rows)
