"""The digest of the code that a number depends on: not more, not less."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from vtbench.base.errors import RegistryError
from vtbench.base.locations import package_dir
from vtbench.runs import code_digest
from vtbench.runs.code_digest import digest_code

PASS = "vtbench.runs.runner"
FILES = {
    "own_plugin/__init__.py": "",
    "own_plugin/adapter.py": """
        import json
        from typing import TYPE_CHECKING
        import numpy
        from own_model import Net
        from . import constants
        if TYPE_CHECKING:
            import own_typing

        def build():
            from own_lazy import late
            return late
        """,
    "own_plugin/constants.py": "SCALE = 2\n",
    "own_model/__init__.py": "from own_model.net import Net\n",
    "own_model/net.py": "class Net: ...\n",
    "own_lazy.py": "late = 1\n",
    "own_typing.py": "",
    "own_unused.py": "",
}
"""A plug-in and the model that it wraps, as people have them: on sys.path and not installed."""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(content))
    monkeypatch.syspath_prepend(tmp_path)
    code_digest._top_places.cache_clear()
    code_digest._installed_version.cache_clear()
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]
    code_digest._top_places.cache_clear()
    code_digest._installed_version.cache_clear()


@pytest.mark.parametrize("imported", [False, True], ids=["not imported", "imported"])
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("own_plugin/adapter.py", True),
        ("own_plugin/__init__.py", True),
        ("own_plugin/constants.py", True),
        ("own_model/__init__.py", True),
        ("own_model/net.py", True),
        ("own_lazy.py", True),
        ("own_typing.py", False),
        ("own_unused.py", False),
    ],
)
def test_a_change_counts_where_it_is_imported(
    plugin: Path, name: str, counts: bool, imported: bool
) -> None:
    if imported:
        importlib.import_module("own_plugin.adapter")
    before = digest_code([PASS, "own_plugin.adapter"])
    (plugin / name).write_text((plugin / name).read_text() + "\nlater = 1\n")
    assert (digest_code([PASS, "own_plugin.adapter"]) != before) == counts


def closure(*roots: str, monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """Return the files of vtbench that are digested."""
    read: set[Path] = set()
    sha256_file = code_digest.sha256_file

    def note(path: Path) -> str:
        read.add(path)
        return sha256_file(path)

    monkeypatch.setattr(code_digest, "sha256_file", note)
    digest_code(roots)
    return {path.relative_to(package_dir()) for path in read if package_dir() in path.parents}


def test_a_family_and_the_pass_count_and_no_other_family(monkeypatch: pytest.MonkeyPatch) -> None:
    files = closure(PASS, "vtbench.tokenizers.patch", monkeypatch=monkeypatch)
    named = {path.as_posix() for path in files}
    measuring = ("images.py", "metrics/pixel.py", "runs/runner.py", "suites/batches.py")
    assert {*measuring, "tokenizers/patch.py", "tokenizers/base.py"} <= named
    families = {"titok", "flowmo", "rae", "diffusers_vae", "codecs"}
    assert not {f"tokenizers/{family}.py" for family in families} & named
    rooms = {path.parts[0] for path in files}
    assert not rooms & {"commands", "leaderboard", "training", "cli.py", "__init__.py"}


def test_an_installed_distribution_counts_by_its_version(
    plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest_code(["own_plugin.adapter"])
    version = code_digest.version
    monkeypatch.setattr(code_digest, "version", lambda name: version(name) + ".post1")
    code_digest._installed_version.cache_clear()
    assert digest_code(["own_plugin.adapter"]) != before


@pytest.mark.slow
def test_a_distribution_counts_by_its_version_wherever_its_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder of PYTHONPATH (`pip install --target`), and by links to another; a folder of the same
    name that lies before it is not the distribution's."""
    kept, linked, shadow = (tmp_path / name for name in ("kept", "linked", "shadow"))
    for folder in (kept / "faraway", kept / "faraway-1.2.dist-info", linked, shadow / "faraway"):
        folder.mkdir(parents=True)
    for place in (kept, shadow):
        (place / "faraway" / "__init__.py").write_text("")
    facts = kept / "faraway-1.2.dist-info"
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: faraway\nVersion: 1.2\n")
    (facts / "RECORD").write_text("faraway/__init__.py,,\n")
    for path in kept.iterdir():
        (linked / path.name).symlink_to(path)
    caches = (code_digest._installed_version, code_digest._distributions, code_digest._top_places)
    for places, expected in (
        ([kept], "faraway==1.2"),
        ([linked], "faraway==1.2"),
        ([shadow, kept], None),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "path", [*map(str, places), *sys.path])
            importlib.invalidate_caches()
            for cache in caches:
                cache.cache_clear()
            assert code_digest._installed_version("faraway") == expected
    for cache in caches:
        cache.cache_clear()


def test_a_root_that_is_not_there_is_refused() -> None:
    with pytest.raises(RegistryError, match="module no_such_module is not to be found"):
        digest_code(["no_such_module"])


def test_packages_belong_to_the_distributions_that_importlib_finds() -> None:
    found = {
        top: {owner.metadata["Name"] for owner in owners}
        for top, owners in code_digest._distributions().items()
    }
    assert found == {top: set(names) for top, names in packages_distributions().items()}
