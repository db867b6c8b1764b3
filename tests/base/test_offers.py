"""What installed packages offer, and what of it is left out with a line."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from vtbench.base import plugins
from vtbench.metrics import catalogue


@pytest.fixture
def offering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Let modules of a folder be offered as plug-ins, and forget them afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    caches = (plugins.load_offers, plugins.list_data_folders)
    for cache in caches:
        cache.cache_clear()
    yield monkeypatch
    for cache in caches:
        cache.cache_clear()


PLUGINS = {
    "nothing": ("", "has no attribute 'DATA'"),
    "none": ("DATA = None", "no absolute path of a folder: NoneType"),
    "relative": ("DATA = '..'", "no absolute path of a folder: .."),
    "gone": ("DATA = '/nonexistent'", "no absolute path of a folder: /nonexistent"),
    "failing": ("1 / 0", "ZeroDivisionError"),
    "ending": ("raise SystemExit(0)", "SystemExit: 0"),
    "no_exception": ("class Own(BaseException): pass\nraise Own", "Own"),
    "no_text": (
        "class Dumb(Exception):\n    def __str__(self): return 1 / 0\nraise Dumb",
        "Dumb",
    ),
}


@pytest.mark.parametrize("kind", PLUGINS)
def test_a_plugin_that_offers_nothing_is_left_out(
    kind: str, tmp_path: Path, offering: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    code, message = PLUGINS[kind]
    (tmp_path / f"offers_{kind}.py").write_text(code)
    (tmp_path / f"offers_good_{kind}.py").write_text(f"DATA = {str(tmp_path)!r}")
    names = (f"offers_{kind}", f"offers_good_{kind}")
    offering.setattr(plugins, "list_modules", lambda group: names)
    with caplog.at_level(logging.WARNING):
        assert plugins.list_data_folders() == (tmp_path,)
    (told,) = caplog.messages
    assert (
        told.startswith(f"plug-in offers_{kind} (vtbench.data) is left out: ") and message in told
    )


@pytest.mark.parametrize("offered", ["5", "['psnr']", "'ssim'", "None"])
def test_metrics_that_are_none_are_left_out(
    offered: str, tmp_path: Path, offering: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"measures_{abs(hash(offered))}"
    (tmp_path / f"{name}.py").write_text(f"METRICS = {offered}")
    offering.setattr(plugins, "list_modules", lambda group: (name,))
    with caplog.at_level(logging.WARNING):
        assert list(catalogue._all_metrics()) == [metric.key for metric in catalogue._ALL]
    assert "METRICS is no sequence of Metric" in caplog.text
