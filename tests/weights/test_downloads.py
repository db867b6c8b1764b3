"""Downloads, against a server on the loopback: whole or not at all, gone on with, hashed, refused in
one line; and the folder that is carried to a machine without a network."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import pytest
from hub_server import COMMIT, HubServer

from vtbench.base.errors import OutputError, WeightsMismatch, WeightsMissing
from vtbench.cli import main
from vtbench.commands import fetch as fetching
from vtbench.registry.entries import load_entry
from vtbench.weights import downloads
from vtbench.weights import metrics as metric_weights
from vtbench.weights.downloads import fetch_metric_weights
from vtbench.weights.entries import check_hashes, find_weights
from vtbench.weights.metrics import (
    MetricWeights,
    check_metric_weights,
    find_metric_weights,
    needed_weights,
)

CONTENT = bytes(range(256)) * 5000
HUB_FILES = {"config.json": b'{"a": 1}', "model.safetensors": CONTENT[:3000]}
ENTRY = """\
title: {name}
family: kl-vae
adapter: vtbench.tokenizers.diffusers_vae:DiffusersVae
kind: continuous
quantizer: kl
latent_channels: 4
licence: MIT
weights:
  source: hub
  repo: some-lab/{name}
  subfolder: vae
  files: [config.json, model.safetensors]
  licence: MIT
description: A tokenizer of the tests.
"""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    server = HubServer()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield server
    server.close()


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches; returns torch.hub's folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("EASYOCR_MODULE_PATH", str(tmp_path / "easyocr"))
    monkeypatch.delenv("VTBENCH_WEIGHTS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(
        "huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path / "hub")
    )
    return tmp_path / "torch" / "hub" / "checkpoints"


def catalogue_of(monkeypatch: pytest.MonkeyPatch, **entries: dict[str, object]) -> None:
    """Put entries in place of the shipped catalogue."""
    made = {
        key: MetricWeights.model_validate({"title": key, "metrics": [], **content, "key": key})
        for key, content in entries.items()
    }
    catalogue = MappingProxyType(made)
    for module in (metric_weights, fetching):
        monkeypatch.setattr(module, "metric_weights", lambda: catalogue)


def at(url: str, content: bytes, place: str = "torch", **more: object) -> dict[str, object]:
    name = url.rpartition("/")[2]
    file = {"name": name, "url": url, "sha256": sha256(content), **more}
    return {"weights": {"source": "url", "place": place, "licence": "MIT", "files": [file]}}


def entry(key: str) -> MetricWeights:
    return metric_weights.get_metric_weights(key)


def test_a_file_comes_whole_and_once(
    hub: HubServer, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.files["net.pth"] = CONTENT
    catalogue_of(monkeypatch, net=at(f"{hub.url}/net.pth", CONTENT))
    with pytest.raises(WeightsMissing, match=r"net needs net\.pth in .*run `vtbench fetch net`"):
        find_metric_weights("net")
    seen: list[tuple[str, int, int | None]] = []
    found = fetch_metric_weights(entry("net"), lambda *facts: seen.append(facts))
    assert found.path == places / "net.pth" and found.path.read_bytes() == CONTENT
    assert seen[-1] == ("net.pth", len(CONTENT), len(CONTENT)) and len(seen) > 1
    assert [file.name for file in places.iterdir()] == ["net.pth"]
    assert fetch_metric_weights(entry("net")).path == found.path
    assert len(hub.asked) == 1, "what is here and right is not fetched again"
    assert check_metric_weights("net") == {"net.pth": sha256(CONTENT)}


@pytest.mark.parametrize("ranges", [True, False])
def test_a_torn_download_goes_on(
    hub: HubServer, places: Path, monkeypatch: pytest.MonkeyPatch, ranges: bool
) -> None:
    hub.files["net.pth"], hub.tear["net.pth"], hub.ranges = CONTENT, 400_000, ranges
    catalogue_of(monkeypatch, net=at(f"{hub.url}/net.pth", CONTENT))
    with pytest.raises(WeightsMissing, match=r"broke off after 400000 of 1280000 bytes") as caught:
        fetch_metric_weights(entry("net"))
    assert "\n" not in str(caught.value)
    assert not (places / "net.pth").exists()
    assert fetch_metric_weights(entry("net")).path.read_bytes() == CONTENT
    assert hub.asked == [("/net.pth", None), ("/net.pth", "bytes=400000-")]
    assert [file.name for file in places.iterdir()] == ["net.pth"]


def test_a_finished_part_is_taken_as_it_is(
    hub: HubServer, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.files["net.pth"] = CONTENT
    catalogue_of(monkeypatch, net=at(f"{hub.url}/net.pth", CONTENT))
    places.mkdir(parents=True)
    (places / ".net.pth.part").write_bytes(CONTENT)  # killed between the last byte and the rename
    assert fetch_metric_weights(entry("net")).path.read_bytes() == CONTENT


def test_the_wrong_content_is_refused_and_not_kept(
    hub: HubServer, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.files["net.pth"] = b"<html>"
    catalogue_of(monkeypatch, net=at(f"{hub.url}/net.pth", CONTENT))
    with pytest.raises(WeightsMismatch, match=f"gives has sha256 {sha256(b'<html>')[:12]}"):
        fetch_metric_weights(entry("net"))
    assert list(places.iterdir()) == [], "neither the file nor a part to go on from"
    # A damaged file that lies here is replaced.
    hub.files["net.pth"] = CONTENT
    (places / "net.pth").write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsMismatch, match="another file or a damaged one"):
        check_metric_weights("net")
    assert fetch_metric_weights(entry("net")).path.read_bytes() == CONTENT
    # The mutant: without the digest the same bytes pass.
    hub.files["net.pth"] = b"<html>"
    (places / "net.pth").unlink()
    catalogue_of(monkeypatch, net=at(f"{hub.url}/net.pth", CONTENT, sha256=None))
    assert fetch_metric_weights(entry("net")).path.read_bytes() == b"<html>"


@pytest.mark.parametrize("status", [401, 403, 404, 503])
def test_an_address_that_refuses(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    hub.refuse["net.pth"] = (status, None)
    catalogue_of(monkeypatch, net=at(f"{hub.url}/net.pth", CONTENT))
    with pytest.raises(WeightsMissing, match=rf"net\.pth: {hub.url}/net\.pth answers {status} "):
        fetch_metric_weights(entry("net"))


def test_no_server_and_no_room(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue_of(monkeypatch, net=at("http://127.0.0.1:1/net.pth", CONTENT))
    with pytest.raises(WeightsMissing, match="cannot be reached"):
        fetch_metric_weights(entry("net"))
    hub.files["net.pth"] = CONTENT
    catalogue_of(monkeypatch, net=at(f"{hub.url}/net.pth", CONTENT))
    usage = shutil.disk_usage(Path.cwd())._replace(free=1000)
    monkeypatch.setattr("vtbench.weights.downloads.shutil.disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match="1280000 bytes to come, 1000 free"):
        fetch_metric_weights(entry("net"))


def test_a_zip_is_unpacked_and_the_file_in_it_hashed(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net.pth", CONTENT)
    hub.files["net.zip"] = packed.getvalue()
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    facts = {"name": "net.pth", "member": "net.pth", "sha256": None, "md5": md5}
    catalogue_of(monkeypatch, net=at(f"{hub.url}/net.zip", CONTENT, "easyocr", **facts))
    found = fetch_metric_weights(entry("net"))
    assert found.path == tmp_path / "easyocr" / "model" / "net.pth"
    assert [file.name for file in found.path.parent.iterdir()] == ["net.pth"]
    catalogue_of(
        monkeypatch, net=at(f"{hub.url}/net.zip", b"", "easyocr", **{**facts, "md5": "0" * 32})
    )
    with pytest.raises(WeightsMismatch, match="MD5"):
        check_metric_weights("net")
    found.path.unlink()
    with pytest.raises(WeightsMismatch, match="nothing was kept"):
        fetch_metric_weights(entry("net"))
    hub.files["net.zip"] = b"no zip"
    with pytest.raises(WeightsMismatch, match="no zip that holds"):
        fetch_metric_weights(entry("net"))
    assert list(found.path.parent.iterdir()) == []


def test_a_mirror_of_the_hub_stands_for_it(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories["some-lab/one"] = {"net.pth": CONTENT}
    address = "https://huggingface.co/some-lab/one/resolve/main/net.pth"
    catalogue_of(monkeypatch, net=at(address, CONTENT))
    assert fetch_metric_weights(entry("net")).path.read_bytes() == CONTENT
    assert hub.asked == [("/some-lab/one/resolve/main/net.pth", None)]


def test_the_same_bytes_under_their_other_name_are_found(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.mkdir(parents=True)
    (places / "weights-inception-2015-12-05-6726825d.pth").write_bytes(b"x")
    found = find_metric_weights("fid-inception")
    assert found.path.name == "weights-inception-2015-12-05-6726825d.pth"
    with pytest.raises(WeightsMismatch, match="not 6726825d0af5…"):
        check_metric_weights("fid-inception", found)


def test_a_repository_of_the_hub(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["some-lab/one"] = {f"vae/{n}": content for n, content in HUB_FILES.items()}
    path = tmp_path / "one.yaml"
    path.write_text(ENTRY.format(name="one"))
    one = load_entry(path)
    found = downloads.fetch_weights(one)
    assert found.path.parts[-2:] == (COMMIT, "vae")
    hashes = {name: sha256(content) for name, content in HUB_FILES.items()}
    assert check_hashes(one, found) == hashes
    # Pinned and damaged in the cache: fetched again, and right.
    pinned = f"  revision: {COMMIT}\n  sha256:\n" + "".join(
        f"    {name}: {value}\n" for name, value in hashes.items()
    )
    path.write_text(
        ENTRY.format(name="one").replace("  licence: MIT\ndesc", f"{pinned}  licence: MIT\ndesc")
    )
    one = load_entry(path)
    (found.path / "model.safetensors").resolve().write_bytes(b"damaged")
    assert check_hashes(one, downloads.fetch_weights(one)) == hashes
    # The hub itself has another file than the pinned one.
    hub.repositories["some-lab/one"]["vae/config.json"] = b"{}"
    shutil.rmtree(tmp_path / "hub")
    with pytest.raises(WeightsMismatch, match=r"config\.json has sha256"):
        downloads.fetch_weights(one)


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (401, "GatedRepo", "the hub refuses (401): accept the licence at {hub}/some-lab/one, then"),
        (403, "GatedRepo", "the hub refuses (403): accept the licence at {hub}/some-lab/one, then"),
        (403, None, "the hub refuses (403)"),
        (401, None, "the hub refuses (401)"),
        (404, "RepoNotFound", "{hub}/some-lab/one does not exist, or is private"),
        (404, "EntryNotFound", "{hub}/some-lab/one has no such file"),
        (404, "RevisionNotFound", "{hub}/some-lab/one has no revision"),
    ],
)
def test_a_hub_that_refuses(
    hub: HubServer, tmp_path: Path, status: int, code: str | None, said: str
) -> None:
    hub.refuse["some-lab/one"] = (status, code)
    (tmp_path / "one.yaml").write_text(ENTRY.format(name="one"))
    with pytest.raises(WeightsMissing) as caught:
        downloads.fetch_weights(load_entry(tmp_path / "one.yaml"))
    message = str(caught.value)
    assert message.startswith("one: some-lab/one/config.json could not be fetched: ")
    assert said.format(hub=hub.url) in message and "\n" not in message


def test_fetch_goes_on_after_a_failure_and_says_which(
    hub: HubServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.files["net.pth"] = CONTENT
    hub.refuse["some-lab/one"] = (403, "GatedRepo")
    catalogue_of(monkeypatch, net=at(f"{hub.url}/net.pth", CONTENT))
    (tmp_path / "one.yaml").write_text(ENTRY.format(name="one"))
    assert main(["fetch", "one", "net", "identity", "--registry", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "vtbench: one: some-lab/one/config.json" in said.err
    assert f"net: {find_metric_weights('net').path}" in said.out
    assert "identity: nothing to fetch: needs no weights" in said.out


@pytest.mark.slow
def test_fetch_of_a_suite_brings_what_it_needs_and_nothing_else(
    hub: HubServer, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The suite reads with rapidocr and measures lpips_alex, not lpips_vgg.
    contents = {name: name.encode() for name in ("alex", "vgg", "reader")}
    hub.files.update({f"{name}.pth": content for name, content in contents.items()})
    metrics = {"alex": ["lpips_alex"], "vgg": ["lpips_vgg"], "reader": ["cer"]}
    entries = {
        name: {**at(f"{hub.url}/{name}.pth", content), "metrics": metrics[name]}
        for name, content in contents.items()
    }
    entries["reader"]["ocr"] = "easyocr"
    catalogue_of(monkeypatch, **entries)
    assert main(["fetch", "--suite", "mini", "--data", str(data)]) == 0
    assert [path for path, _ in hub.asked] == ["/alex.pth"]
    assert capsys.readouterr().out.startswith("alex: ")
    catalogue_of(monkeypatch, vgg=entries["vgg"])
    assert main(["fetch", "--suite", "mini", "--data", str(data)]) == 0
    assert "mini: nothing to fetch" in capsys.readouterr().out


@pytest.mark.slow
def test_a_folder_to_carry_is_found_on_the_other_machine(
    hub: HubServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.files["net.pth"] = CONTENT
    hub.repositories["some-lab/one"] = {f"vae/{n}": content for n, content in HUB_FILES.items()}
    catalogue_of(monkeypatch, net=at(f"{hub.url}/net.pth", CONTENT))
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "one.yaml").write_text(ENTRY.format(name="one"))
    registry = ["--registry", str(tmp_path / "registry")]
    folder = tmp_path / "carry"
    for names in (["net"], ["one"], ["net", "one"]):  # added to, and run again
        assert main(["fetch", *names, "--to", str(folder), *registry]) == 0
    manifest = json.loads((folder / "weights.json").read_text())
    assert set(manifest["files"]) == {"net/net.pth", "one/config.json", "one/model.safetensors"}
    assert manifest["files"]["one/config.json"]["origin"] == f"{hub.url}/some-lab/one @ {COMMIT}"
    assert manifest["files"]["net/net.pth"] == {
        "sha256": sha256(CONTENT),
        "bytes": len(CONTENT),
        "origin": f"{hub.url}/net.pth",
        "licence": "MIT",
    }
    # The other machine: no caches, no hub; a copy of the folder.
    hub.close()
    shutil.copytree(folder, tmp_path / "usb")
    for cache in ("torch", "hub", "carry"):
        shutil.rmtree(tmp_path / cache)
    one = load_entry(tmp_path / "registry" / "one.yaml")
    with pytest.raises(WeightsMissing):
        find_weights(one)
    monkeypatch.setenv("VTBENCH_WEIGHTS", str(tmp_path / "usb"))
    found = find_weights(one)
    assert found is not None and found.path == tmp_path / "usb" / "one"
    assert check_hashes(one, found)["config.json"] == sha256(HUB_FILES["config.json"])
    assert find_metric_weights("net").path == tmp_path / "usb" / "net" / "net.pth"
    capsys.readouterr()
    assert main(["validate", str(tmp_path / "usb")]) == 0
    assert "3 weight files" in capsys.readouterr().out
    (tmp_path / "usb" / "net" / "net.pth").write_bytes(CONTENT[:-1] + b"x")
    assert main(["validate", str(tmp_path / "usb")]) == 2
    assert "net.pth is not the file of weights.json" in capsys.readouterr().err
    (tmp_path / "usb" / "net" / "net.pth").unlink()
    assert main(["validate", str(tmp_path / "usb")]) == 2
    (tmp_path / "usb" / "weights.json").write_text(
        json.dumps({"schema_version": 1, "files": {"../x": manifest["files"]["net/net.pth"]}})
    )
    assert main(["validate", str(tmp_path / "usb")]) == 2
    assert "leaves the folder" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(
    hub: HubServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.files["net.pth"] = CONTENT
    catalogue_of(monkeypatch, net=at(f"{hub.url}/net.pth", CONTENT))
    (tmp_path / "file").write_text("here first")
    assert main(["fetch", "net", "--to", str(tmp_path / "file" / "below")]) == 2
    said = capsys.readouterr().err
    assert "cannot write" in said and said.count("\n") == 1


def test_a_name_of_both_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dists.yaml").write_text(ENTRY.format(name="dists"))
    assert main(["fetch", "dists", "--registry", str(tmp_path)]) == 2
    assert "dists is the name of a metric's weights" in capsys.readouterr().err


UNSTATED = {"doctr-parseq", "qwen3-vl-2b"}
"""Nobody's public page states the whole digests. The reader of the first compares the eight digits in
the file's name; `vtbench pin` fills the second's."""


def test_the_shipped_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = metric_weights.metric_weights()
    assert {"lpips-alex", "lpips-vgg", "fid-inception", "dists", "siglip-so400m"} <= set(catalogue)
    for key, weights in catalogue.items():
        if isinstance(weights.weights, metric_weights.UrlWeights):
            for file in weights.weights.files:
                assert file.url.startswith("https://"), key
                stated = file.sha256 or file.md5 or key in UNSTATED
                assert stated, f"{key}: nothing is stated of {file.name}"
                digits = file.name.removesuffix(".pth").rpartition("-")[2]
                if re.fullmatch(r"[0-9a-f]{8}", digits):
                    assert str(file.sha256).startswith(digits), key
        elif isinstance(weights.weights, metric_weights.SystemWeights):
            assert weights.weights.sha256 and not weights.fetched, key
        elif isinstance(weights.weights, metric_weights.HubWeights) and key not in UNSTATED:
            assert weights.weights.revision is not None
            assert set(weights.weights.sha256 or {}) == set(weights.weights.files), key
    keys = [entry.key for entry in needed_weights(["rfid@clean-fid", "cer"], "easyocr")]
    assert keys == ["fid-inception", "easyocr-chinese", "easyocr-scripts"]
    assert [e.key for e in needed_weights(["cer"], "tesseract")] == ["tesseract"]
    assert [e.key for e in needed_weights(["cer"], "rapidocr")] == ["rapidocr"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\n", r"metric_weights\.yaml:1: a: not a key"),
        ("a: {title: x, metrics: [], weights: {source: hub, repo: x}}\n", r":1: a\.weights\.repo"),
        ("a:\n  title: x\n  metrics: []\n  colour: red\n", r"metric_weights\.yaml:4: a\.colour"),
    ],
)
def test_a_malformed_catalogue_names_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    from vtbench.base.errors import RegistryError

    (tmp_path / "metric_weights.yaml").write_text(text)
    monkeypatch.setattr(metric_weights, "data_dir", lambda: tmp_path)
    with pytest.raises(RegistryError, match=said):
        metric_weights.metric_weights.__wrapped__()


def test_a_hub_file_that_leaves_its_repository_is_refused(tmp_path: Path) -> None:
    from vtbench.base.errors import RegistryError

    text = ENTRY.format(name="one").replace("config.json,", "../../config.json,")
    (tmp_path / "one.yaml").write_text(text)
    with pytest.raises(RegistryError, match="leaves its folder"):
        load_entry(tmp_path / "one.yaml")


def test_links_where_they_can_be(tmp_path: Path) -> None:
    from vtbench.weights.folder import pack_weights

    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    pack_weights(
        tmp_path / "out", "a", {"f": source}, hashes={"f": sha256(CONTENT)}, origin="o", licence="l"
    )
    assert (tmp_path / "out" / "a" / "f").stat().st_ino == source.stat().st_ino
