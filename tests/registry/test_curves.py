"""Series of codecs: points that are there for a curve alone, and packages that entries need."""

from __future__ import annotations

from pathlib import Path

import pytest

from vtbench.base.errors import RegistryError, WeightsMissing
from vtbench.commands.list import weights_state
from vtbench.registry.entries import Registry, load_entry, load_registry
from vtbench.runs.request import choose_entries
from vtbench.weights.entries import find_weights

ENTRY = """\
title: A codec, finest
family: codec
adapter: vtbench.tokenizers.codecs:PillowCodec
options: {format: jpeg, quality: 50}
kind: codec
quantizer: none
licence: Apache-2.0
description: One point.
"""


def write(folder: Path, name: str, *more: str) -> Path:
    """Write an entry with further lines and return its file."""
    path = folder / f"{name}.yaml"
    path.write_text(ENTRY + "".join(f"{line}\n" for line in more))
    return path


def test_a_series_changes_no_number(tmp_path: Path) -> None:
    plain = load_entry(write(tmp_path, "a"))
    point = load_entry(write(tmp_path, "a", "series: A codec", "curve_only: true", "needs: torch"))
    assert point.sha256 == plain.sha256
    assert (point.series, point.curve_only, plain.series) == ("A codec", True, None)


def test_a_point_of_no_series_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="curve_only belongs to a point of a series"):
        load_entry(write(tmp_path, "a", "curve_only: true"))


def test_points_of_a_curve_run_when_they_are_asked_for(tmp_path: Path) -> None:
    paths = [
        write(tmp_path, "a", "series: A"),
        write(tmp_path, "b", "series: A", "curve_only: true"),
    ]
    registry = Registry({path.stem: load_entry(path) for path in paths})

    def choose(*names: str, families: tuple[str, ...] = (), curves: bool = False) -> list[str]:
        chosen = choose_entries(registry, names, families, {}, curves=curves)
        assert chosen.skipped == ()
        return [entry.name for entry in chosen.entries]

    assert choose() == ["a"]
    assert choose(curves=True) == ["a", "b"]
    assert choose("b") == ["b"]
    assert choose(families=("codec",)) == ["a"]
    assert choose(families=("codec",), curves=True) == ["a", "b"]


def test_a_package_that_is_not_installed_is_missing_by_name(tmp_path: Path) -> None:
    path = write(tmp_path, "a", "series: A", "curve_only: true", "needs: no_such_package")
    entry = load_entry(path)
    with pytest.raises(WeightsMissing, match="a needs the package no_such_package: `pip install"):
        find_weights(entry)
    assert weights_state(entry) == "missing: pip install no_such_package"
    other = load_entry(write(tmp_path, "b"))
    chosen = choose_entries(Registry({"a": entry, "b": other}), (), (), {}, curves=True)
    assert [entry.name for entry in chosen.entries] == ["b"]
    assert [(one.name, "no_such_package" in one.reason) for one in chosen.skipped] == [("a", True)]


@pytest.mark.slow
def test_every_codec_but_jpeg_lms_is_of_a_series_and_has_points_for_a_curve() -> None:
    series: dict[str, list[bool]] = {}
    for entry in load_registry().values():
        if entry.kind == "codec":
            series.setdefault(entry.series or entry.name, []).append(entry.curve_only)
    assert series.pop("jpeg-lm") == [False]
    assert set(series) == {"JPEG", "WebP", "AVIF", "JPEG 2000", "JPEG XL"}
    for name, points in series.items():
        assert 6 <= len(points) <= 9, name
    # The main job has no more codecs than it had.
    assert sum(not only for points in series.values() for only in points) == 11
