"""Entries: what is refused, and that the message names the file and the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from vtbench.base.errors import NotReleased, RegistryError, UnknownName
from vtbench.cli import main
from vtbench.registry.entries import load_entry, load_registry, load_unreleased
from vtbench.registry.licences import classify_licence, licence_classes

GOOD = """\
title: A thing
family: sanity
adapter: vtbench.tokenizers.resample:Resample
options: {factor: 2}
kind: pixels
quantizer: none
licence: Apache-2.0
description: Nothing special.
"""


def _entry(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_shipped_entries_load() -> None:
    registry = load_registry()
    assert {"identity", "resize-2x", "resize-4x", "jpeg-q50", "patch-pca-f8c4"} <= set(registry)
    assert all(name == entry.name == entry.path.stem for name, entry in registry.items())


def test_good_entry(tmp_path: Path) -> None:
    entry = load_entry(_entry(tmp_path, GOOD))
    assert entry.name == "mine"
    assert entry.spec.name == "mine"
    assert entry.spec.input_range == (0.0, 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "colour: red\n", r"mine\.yaml:9: colour: unknown key"),
        (GOOD.replace("pixels", "pixel"), r"mine\.yaml:5: kind: "),
        (GOOD.replace("quantizer: none\n", ""), r"quantizer: Field required"),
        (GOOD + "title: again\n", r"mine\.yaml:9: key 'title' is given twice"),
        (GOOD + "size: {multiple: 0}\n", r"mine\.yaml:9: size\.multiple: "),
        (GOOD + "size: {fixed: [8, 8]}\n", r"policy: resize or tile"),
        (GOOD + "size: {multiple: 8, policy: tile}\n", r"mine\.yaml:9: .*needs a fixed size"),
        (GOOD + "codebook_size: 8\n", r"codebook_size belongs to kind: discrete"),
        (GOOD + "input_range: [1, 0]\n", r"low < high"),
        (GOOD + "name: other\n", r"mine\.yaml:9: name: unknown key"),
        (GOOD.replace("vtbench.tokenizers.resample:Resample", "os;system"), r"adapter: "),
        (GOOD + "weights: {source: package, file: a, sha256: zz, licence: x}\n", r"sha256"),
        (GOOD + "weights: {source: hub, repo: nope, licence: x}\n", r"weights\.repo"),
        ("a: [1\n", r"mine\.yaml:2: not valid YAML"),
        ("- a\n", r"expected a mapping"),
        ("", r"expected a mapping"),
        ("a: &x [1]\nb: *x\n", r"mine\.yaml:2: YAML aliases are refused"),
        ("a: !!python/object/apply:os.system ['true']\n", r"not valid YAML"),
    ],
)
def test_bad_entries_name_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RegistryError, match=message) as caught:
        load_entry(_entry(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_bad_file_names(tmp_path: Path) -> None:
    for name in ("Mine.yaml", "a_b.yaml", "mine.yml"):
        with pytest.raises(RegistryError, match="file name"):
            load_entry(_entry(tmp_path, GOOD, name))


@pytest.mark.slow
def test_duplicate_names_both_files(tmp_path: Path) -> None:
    path = _entry(tmp_path, GOOD, "identity.yaml")
    with pytest.raises(RegistryError, match="exists already in") as caught:
        load_registry([tmp_path])
    assert str(path) in str(caught.value)


def test_huge_file_is_refused_unread(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="larger than 262,144"):
        load_entry(_entry(tmp_path, "#" * 300_000))


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="not a folder"):
        load_registry([tmp_path / "none"])


def test_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"'jpeg-q50x'.*did you mean .*jpeg-q50"):
        load_registry()["jpeg-q50x"]


def test_digest_sees_what_changes_a_number_and_not_the_prose(tmp_path: Path) -> None:
    entry = load_entry(_entry(tmp_path, GOOD))
    prose = load_entry(_entry(tmp_path, GOOD.replace("A thing", "Another")))
    options = load_entry(_entry(tmp_path, GOOD.replace("factor: 2", "factor: 4")))
    assert entry.sha256 == prose.sha256
    assert entry.sha256 != options.sha256


UNRELEASED = """\
state: unreleased
title: A promise
family: kl-vae
why: no weights were published
needed: a checkpoint
paper: https://arxiv.org/abs/0000.00000
description: Read about, never seen.
"""


@pytest.fixture
def promised(tmp_path: Path) -> Path:
    (tmp_path / "unreleased").mkdir()
    _entry(tmp_path, GOOD)
    _entry(tmp_path / "unreleased", UNRELEASED, "promise.yaml")
    return tmp_path


@pytest.mark.slow
def test_the_unreleased_are_known_and_no_entries(promised: Path) -> None:
    shipped = load_registry()
    assert set(shipped.unreleased) == {
        *("dc-ae-1.5", "digit", "dito", "fae", "lv-rae", "ps-vae", "qwen-image-vae-2.0"),
        *("spae", "vqrae"),
    }
    assert all(record.paper.startswith("https://arxiv") for record in shipped.unreleased.values())
    registry = load_registry([promised])
    assert "mine" in registry and "promise" in registry.unreleased
    assert not set(registry) & set(registry.unreleased)
    with pytest.raises(NotReleased, match="promise is unreleased: no weights were published"):
        registry["promise"]
    with pytest.raises(UnknownName, match=r"did you mean .*promise"):
        registry["promises"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (UNRELEASED + "adapter: a:B\n", r"promise\.yaml:8: adapter: unknown key"),
        (UNRELEASED.replace("state: unreleased\n", ""), "state: Field required"),
        (UNRELEASED.replace("state: unreleased", "state: released"), r"promise\.yaml:1: state: "),
        (UNRELEASED.replace("https://arxiv", "arxiv"), r"promise\.yaml:6: paper: "),
        (GOOD, "adapter: unknown key"),
    ],
)
def test_their_files_are_checked(promised: Path, text: str, message: str) -> None:
    path = _entry(promised / "unreleased", text, "promise.yaml")
    with pytest.raises(RegistryError, match=message):
        load_unreleased(path)
    assert main(["validate", str(promised)]) == main(["validate", str(path)]) == 2
    with pytest.raises(RegistryError, match=message):
        load_registry([promised])
    # In the folder of entries it is a malformed entry, and never one that runs.
    with pytest.raises(RegistryError):
        load_entry(_entry(promised, UNRELEASED, "promise.yaml"))


def test_a_name_is_released_or_not(promised: Path) -> None:
    _entry(promised, GOOD, "promise.yaml")
    with pytest.raises(RegistryError, match="exists already in"):
        load_registry([promised])


@pytest.mark.slow
def test_commands_show_them_apart_and_run_none(
    promised: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ("--registry", str(promised))
    assert main(["list", *own]) == 0
    listed = capsys.readouterr().out
    assert "promise" not in listed and "10 more are known and cannot be run" in listed
    assert main(["list", "--all", *own]) == 0
    runnable, _, apart = capsys.readouterr().out.partition("\n\n")
    assert "promise" not in runnable and "sd-vae-ft-mse" in runnable
    assert "promise" in apart and "no weights were published" in apart and "vqrae" in apart
    assert "sd-vae-ft-mse" not in apart
    assert main(["show", "promise", *own]) == 0
    assert "needed: a checkpoint" in capsys.readouterr().out
    assert main(["validate", str(promised)]) == 0
    assert "1 registry entries, 1 unreleased" in capsys.readouterr().out
    for command in (
        ["run", "--tokenizer"],
        ["check", "--random-weights"],
        ["check"],
        ["fetch"],
        ["pin"],
        ["reproduce"],
        ["reconstruct", "a.png", "--out", "x", "-t"],
    ):
        assert main([*command, "promise", *own]) == 2, command
        said = capsys.readouterr().err
        assert said.startswith("vtbench: promise is unreleased: no weights were published")
        assert said.count("\n") == 1
    assert main(["show", "promise", "--measure", *own]) == 2


def test_every_shipped_licence_has_a_class(tmp_path: Path) -> None:
    registry = load_registry()
    stated = {entry.weights.licence for entry in registry.values() if entry.weights is not None}
    assert stated <= set(licence_classes())
    of = {name: classify_licence(registry[name]) for name in ("taef2", "flextok-vae-c4", "svd-vae")}
    assert of == {"taef2": "free", "flextok-vae-c4": "non-commercial", "svd-vae": "unclear"}
    entry = load_entry(_entry(tmp_path, GOOD.replace("Apache-2.0", "Some Licence of Mine")))
    assert classify_licence(entry) == "unclear"
    assert classify_licence(registry["identity"]) == "free"


@pytest.mark.slow
def test_list_shows_licences_and_who_decodes_through_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["list"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert "licence" in header and "used by" in header
    row = next(row for row in rows if row.startswith("hunyuanvideo-vae "))
    assert " unclear " in row and "HunyuanVideo, Kandinsky 5, FramePack" in row
