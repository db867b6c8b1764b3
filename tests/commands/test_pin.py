"""Pinning: what is written is what the hub says, and nothing else of the file changes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hub_server import COMMIT, HubServer

from vtbench.base.errors import RegistryError
from vtbench.cli import main
from vtbench.commands.pin import write_pin
from vtbench.registry.entries import load_entry
from vtbench.weights.entries import is_pinned

FILES = {"vae/config.json": b'{"a": 1}', "vae/model.safetensors": b"large", "README.md": b"x"}
HASHES = {
    "config.json": hashlib.sha256(b'{"a": 1}').hexdigest(),
    "model.safetensors": hashlib.sha256(b"large").hexdigest(),
}
ENTRY = """\
# A comment above everything.
title: One   # spaced oddly
family: kl-vae
adapter: vtbench.tokenizers.diffusers_vae:DiffusersVae
kind: continuous
quantizer: kl
latent_channels: 4
licence: MIT
weights:
  source: hub
  repo: some-lab/one
  subfolder: vae
  files:
    - config.json
    - model.safetensors
  revision: null
  sha256: null   # nobody has looked yet

  # A comment inside.
  licence: 'MIT'
description: >-
  Folded
  text.
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    server = HubServer()
    server.repositories["some-lab/one"] = dict(FILES)
    server.large.add("vae/model.safetensors")
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    yield server
    server.close()


def write_entry(folder: Path, text: str = ENTRY) -> Path:
    (folder / "registry").mkdir(exist_ok=True)
    path = folder / "registry" / "one.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def pin(path: Path, *more: str) -> int:
    return main(["pin", "one", "--registry", str(path.parent), *more])


@pytest.mark.slow
def test_two_values_change_and_nothing_else(hub: HubServer, tmp_path: Path) -> None:
    path = write_entry(tmp_path)
    assert pin(path) == 0
    assert path.read_text() == ENTRY.replace("revision: null", f'revision: "{COMMIT}"').replace(
        "  sha256: null   #",
        "  sha256:\n"
        f'    config.json: "{HASHES["config.json"]}"\n'
        f'    model.safetensors: "{HASHES["model.safetensors"]}"   #',
    )
    entry = load_entry(path)
    assert is_pinned(entry)
    fetched = [asked for asked, _ in hub.asked if "/resolve/" in asked]
    assert fetched == [f"/some-lab/one/resolve/{COMMIT}/vae/config.json"], (
        "the hub states the digest of a large file; only the small one is downloaded"
    )


@pytest.mark.slow
def test_the_list_shows_what_is_not_pinned(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_entry(tmp_path)

    def listed() -> str:
        assert main(["list", "--registry", str(path.parent)]) == 0
        lines = capsys.readouterr().out.splitlines()
        return next(line for line in lines if line.startswith("one "))

    assert "missing: vtbench fetch one (unpinned)" in listed()
    path.write_text(ENTRY.replace("repo: some-lab/one", "repo: some-lab/one\n  gated: true"))
    assert "missing: vtbench fetch one (gated, unpinned)" in listed()
    path.write_text(ENTRY)
    assert pin(path) == 0
    capsys.readouterr()
    assert "missing: vtbench fetch one" in listed() and "unpinned" not in listed()


@pytest.mark.slow
def test_pinned_stays_until_an_update(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_entry(tmp_path)
    assert pin(path) == 0
    pinned = path.read_text()
    capsys.readouterr()
    asked = len(hub.asked)
    assert pin(path) == 0
    assert "pinned already" in capsys.readouterr().out and len(hub.asked) == asked
    old = pinned.replace(COMMIT, "d" * 40).replace(HASHES["model.safetensors"], "0" * 64)
    path.write_text(old)
    assert pin(path, "--update") == 0
    assert path.read_text() == pinned
    # A commit that is given is the one that is looked up: `revision` says which it is.
    path.write_text(ENTRY.replace("revision: null", f"revision: {COMMIT}"))
    assert pin(path) == 0
    assert f"/api/models/some-lab/one/revision/{COMMIT}" in hub.asked[-1][0]
    assert path.read_text() == pinned


@pytest.mark.slow
@pytest.mark.parametrize(
    "written",
    [
        ENTRY.replace("  revision: null\n", "").replace(
            "  sha256: null   # nobody has looked yet\n", ""
        ),
        ENTRY.replace("revision: null", "revision:").replace("sha256: null ", "sha256: "),
        ENTRY.replace("sha256: null ", "sha256: {config.json: " + "a" * 64 + "} "),
        ENTRY.replace("revision: null", "revision: ~"),
    ],
    ids=["absent", "empty", "flow", "tilde"],
)
def test_other_ways_of_writing_nothing(hub: HubServer, tmp_path: Path, written: str) -> None:
    path = write_entry(tmp_path, written)
    assert pin(path) == 0
    weights = yaml.safe_load(path.read_text())["weights"]
    assert weights["revision"] == COMMIT and weights["sha256"] == HASHES
    kept = [line.split("#")[-1] for line in ENTRY.splitlines() if "#" in line]
    assert all(comment in path.read_text() for comment in kept if "nobody" not in comment)


def test_what_cannot_be_edited_is_refused_and_left(tmp_path: Path) -> None:
    text = "weights: {source: hub, repo: a/b, revision: null, sha256: null, licence: x}\n"
    (tmp_path / "flow.yaml").write_text(text)
    with pytest.raises(RegistryError, match="lines of their own"):
        write_pin(tmp_path / "flow.yaml", ("weights",), COMMIT, HASHES)
    assert (tmp_path / "flow.yaml").read_text() == text


@pytest.mark.slow
def test_the_catalogue_of_the_metrics_can_be_pinned(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vtbench.weights import metrics as metric_weights

    shipped = metric_weights.catalogue_path().read_text(encoding="utf-8")
    catalogue = tmp_path / "metric_weights.yaml"
    catalogue.write_text(shipped.replace("google/siglip-so400m-patch14-384", "some-lab/one"))
    hub.repositories["some-lab/one"] = {"config.json": b"{}", "model.safetensors": b"w"}
    monkeypatch.setattr("vtbench.commands.pin.catalogue_path", lambda: catalogue)
    entry = metric_weights.metric_weights()["siglip-so400m"]
    weights = entry.weights.model_copy(update={"repo": "some-lab/one"})
    changed = {"siglip-so400m": entry.model_copy(update={"weights": weights})}
    monkeypatch.setattr("vtbench.commands.pin.metric_weights", lambda: changed)
    assert main(["pin", "siglip-so400m", "--update"]) == 0
    after = yaml.safe_load(catalogue.read_text())
    assert after["siglip-so400m"]["weights"]["revision"] == COMMIT
    before = yaml.safe_load(shipped)
    assert {k: v for k, v in after.items() if k != "siglip-so400m"} == {
        k: v for k, v in before.items() if k != "siglip-so400m"
    }
    assert [line for line in catalogue.read_text().splitlines() if "#" in line] == [
        line for line in shipped.splitlines() if "#" in line
    ]


@pytest.mark.slow
def test_a_hub_that_refuses_leaves_the_file(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_entry(tmp_path)
    hub.refuse["api/models/some-lab/one"] = (403, "GatedRepo")
    assert pin(path) == 2  # the one that was asked for cannot be
    said = capsys.readouterr().err
    assert "accept the licence" in said and said.count("\n") == 1
    hub.refuse.clear()
    del hub.repositories["some-lab/one"]["vae/config.json"]
    assert pin(path) == 2
    assert "has no vae/config.json at cccccccccccc" in capsys.readouterr().err
    assert path.read_text() == ENTRY
    assert main(["pin", "identity"]) == 0
    assert "nothing to pin" in capsys.readouterr().out
    assert main(["pin", "no-such-thing"]) == 2
