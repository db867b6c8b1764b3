"""Where weights are looked for, in which order, and what a wrong hash does. No network, no torch."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from vtbench.base.errors import RegistryError, WeightsMismatch, WeightsMissing
from vtbench.registry.entries import Entry, load_entry
from vtbench.weights.downloads import fetch_weights
from vtbench.weights.entries import check_hashes, find_weights, is_pinned

REVISION, OTHER = "a" * 40, "b" * 40
FILES = {"config.json": b"{}", "diffusion_pytorch_model.safetensors": b"weights"}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def entry_with(folder: Path, weights: dict[str, Any] | None, name: str = "subject") -> Entry:
    content = {
        "title": "Test",
        "family": "test",
        "adapter": "vtbench.tokenizers.nowhere:Nothing",
        "kind": "continuous",
        "quantizer": "none",
        "latent_channels": 4,
        "licence": "none",
        "weights": weights,
        "description": "test",
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return load_entry(path)


def hub(**changes: Any) -> dict[str, Any]:
    return {"source": "hub", "repo": "some-lab/some.model_1", "licence": "MIT", **changes}


def write(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no variable of the user's that leads elsewhere."""
    folder = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.delenv("VTBENCH_WEIGHTS", raising=False)
    return folder


def fill_cache(
    cache: Path, revision: str = REVISION, *, below: str = "", main: bool = True
) -> Path:
    """The documented layout: blobs by hash, snapshots of symbolic links, refs by name."""
    repo = cache / "models--some-lab--some.model_1"
    snapshot = repo / "snapshots" / revision / below
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir(exist_ok=True)
    for name, content in FILES.items():
        blob = repo / "blobs" / sha256(content)
        blob.write_bytes(content)
        (snapshot / name).symlink_to(blob)
    if main:
        (repo / "refs").mkdir(exist_ok=True)
        (repo / "refs" / "main").write_text(f"{revision}\n")
    return snapshot


@pytest.mark.parametrize("below", ["", "vae"])
def test_hub_cache_of_the_main_branch(tmp_path: Path, cache: Path, below: str) -> None:
    snapshot = fill_cache(cache, below=below)
    entry = entry_with(tmp_path, hub(subfolder=below or None))
    found = find_weights(entry)
    assert found is not None and found.path == snapshot
    assert found.files == tuple(snapshot / name for name in FILES)
    assert check_hashes(entry, found) == {name: sha256(c) for name, c in FILES.items()}


def test_a_pinned_revision_is_the_only_one_taken(tmp_path: Path, cache: Path) -> None:
    pinned = fill_cache(cache, OTHER, main=False)
    fill_cache(cache, REVISION)
    found = find_weights(entry_with(tmp_path, hub(revision=OTHER)))
    assert found is not None and found.path == pinned
    with pytest.raises(WeightsMissing):
        find_weights(entry_with(tmp_path, hub(revision="c" * 40)))


def test_a_cache_without_the_reference_or_with_a_file_too_few_is_missing(
    tmp_path: Path, cache: Path
) -> None:
    entry = entry_with(tmp_path, hub())
    snapshot = fill_cache(cache, main=False)
    with pytest.raises(WeightsMissing):
        find_weights(entry)
    fill_ref = cache / "models--some-lab--some.model_1" / "refs"
    fill_ref.mkdir()
    (fill_ref / "main").write_text(REVISION)
    assert find_weights(entry) is not None
    # an interrupted download leaves a link whose blob is not there
    (snapshot / "config.json").resolve().unlink()
    with pytest.raises(WeightsMissing):
        find_weights(entry)


@pytest.mark.parametrize("gated", [False, True])
def test_missing_names_the_place_and_the_command(tmp_path: Path, cache: Path, gated: bool) -> None:
    with pytest.raises(WeightsMissing) as caught:
        find_weights(entry_with(tmp_path, hub(gated=gated)))
    message = str(caught.value)
    assert str(cache) in message and "\n" not in message
    assert "run `vtbench fetch subject`" in message and "--weights subject=FOLDER" in message
    assert ("accept its licence" in message) == gated


def test_order_override_then_variable_then_source(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = fill_cache(cache)
    entry = entry_with(tmp_path, hub())
    monkeypatch.setenv("VTBENCH_WEIGHTS", str(tmp_path / "mine"))
    found = find_weights(entry)
    assert found is not None and found.path == snapshot, "a folder without the name is no match"

    (tmp_path / "mine").mkdir()
    single = tmp_path / "mine" / "subject.safetensors"
    single.write_bytes(b"one file")
    found = find_weights(entry)
    assert found is not None and found.path == single and found.files == (single,)

    own = write(tmp_path / "mine" / "subject")
    found = find_weights(entry)
    assert found is not None and found.path == own and {f.name for f in found.files} == set(FILES)

    given = write(tmp_path / "given", {"x.safetensors": b"x"})
    found = find_weights(entry, given)
    assert found is not None and found.path == given
    found = find_weights(entry, given / "x.safetensors")
    assert found is not None and found.files == (given / "x.safetensors",)


def test_override_that_cannot_be(tmp_path: Path) -> None:
    entry = entry_with(tmp_path, hub())
    with pytest.raises(WeightsMissing, match="does not exist"):
        find_weights(entry, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsMissing, match="is an empty folder"):
        find_weights(entry, tmp_path / "empty")
    bare = entry_with(tmp_path, None, "bare")
    assert find_weights(bare) is None
    with pytest.raises(WeightsMismatch, match="takes no weights"):
        find_weights(bare, tmp_path)


def test_local_path_starts_at_the_entry(tmp_path: Path) -> None:
    write(tmp_path / "files")
    found = find_weights(entry_with(tmp_path, {"source": "local", "path": "files"}))
    assert found is not None and found.path == tmp_path / "files"
    with pytest.raises(WeightsMissing, match="does not exist"):
        find_weights(entry_with(tmp_path, {"source": "local", "path": "other"}))


def test_package_file_is_below_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vtbench.weights.entries.data_dir", lambda: tmp_path / "data")
    weights = {"source": "package", "file": "w/x.npz", "sha256": sha256(b"x"), "licence": "MIT"}
    entry = entry_with(tmp_path, weights)
    with pytest.raises(WeightsMissing, match="should have come with vtbench"):
        find_weights(entry)
    write(tmp_path / "data", {"w/x.npz": b"x"})
    found = find_weights(entry)
    assert found is not None
    assert check_hashes(entry, found) == {"x.npz": sha256(b"x")}


def test_hub_hashes(tmp_path: Path, cache: Path) -> None:
    fill_cache(cache)
    right = {name: sha256(content) for name, content in FILES.items()}
    entry = entry_with(tmp_path, hub(revision=REVISION, sha256=right))
    found = find_weights(entry)
    assert found is not None and check_hashes(entry, found) == right and is_pinned(entry)

    wrong = entry_with(tmp_path, hub(sha256={**right, "config.json": "0" * 64}))
    assert not is_pinned(wrong), "without a revision it is not pinned"
    with pytest.raises(WeightsMismatch) as caught:
        check_hashes(wrong, found)
    assert "config.json has sha256 " + right["config.json"][:12] in str(caught.value)
    assert "000000000000…" in str(caught.value) and "\n" not in str(caught.value)

    absent = entry_with(tmp_path, hub(sha256={"model.safetensors": "0" * 64}))
    with pytest.raises(WeightsMismatch, match="is pinned but not there"):
        check_hashes(absent, found)


def test_the_entry_digest_ignores_the_licence_of_the_weights(tmp_path: Path) -> None:
    digest = entry_with(tmp_path, hub()).sha256
    assert entry_with(tmp_path, hub(licence="see model card", gated=True)).sha256 == digest
    assert entry_with(tmp_path, hub(revision=REVISION)).sha256 != digest
    assert len(entry_with(tmp_path, None).sha256) == 64


def test_hashes_hold_for_weights_given_by_hand(tmp_path: Path) -> None:
    """`--weights` may say where a file is, not that another one will do."""
    entry = entry_with(tmp_path, hub(sha256={"config.json": sha256(b"{}")}))
    found = find_weights(entry, write(tmp_path / "given", {**FILES, "config.json": b"[]"}))
    assert found is not None
    with pytest.raises(WeightsMismatch, match=r"config\.json has sha256"):
        check_hashes(entry, found)


def test_files_of_one_name_in_two_subfolders_keep_their_hashes(tmp_path: Path, cache: Path) -> None:
    files = ("encoder/model.safetensors", "decoder/model.safetensors")
    repo = cache / "models--some-lab--some.model_1"
    write(repo / "snapshots" / REVISION, {name: name.encode() for name in files})
    write(repo / "refs", {"main": REVISION.encode()})
    hashes = {name: sha256(name.encode()) for name in files}
    entry = entry_with(tmp_path, hub(files=list(files), sha256=hashes))
    found = find_weights(entry)
    assert found is not None and check_hashes(entry, found) == hashes


def test_local_hash(tmp_path: Path) -> None:
    write(tmp_path / "files")
    path = "files/diffusion_pytorch_model.safetensors"
    right = {"source": "local", "path": path, "sha256": sha256(b"weights")}
    entry = entry_with(tmp_path, right)
    found = find_weights(entry)
    assert found is not None and is_pinned(entry)
    assert check_hashes(entry, found) == {"diffusion_pytorch_model.safetensors": sha256(b"weights")}
    wrong = entry_with(tmp_path, {**right, "sha256": "0" * 64})
    with pytest.raises(WeightsMismatch, match="has sha256"):
        check_hashes(wrong, found)
    # One hash cannot vouch for a folder of two files: it must not pass unread.
    folder = entry_with(tmp_path, {**right, "path": "files"})
    found = find_weights(folder)
    assert found is not None
    with pytest.raises(WeightsMismatch, match="is a folder of 2"):
        check_hashes(folder, found)


def test_a_hash_of_the_wrong_form_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"subject\.yaml:\d+: weights\.sha256"):
        entry_with(tmp_path, {"source": "local", "path": "x", "sha256": "ABC"})


def test_fetch_without_a_network(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    entry = entry_with(tmp_path, hub(revision=REVISION))
    with pytest.raises(WeightsMissing) as caught:
        fetch_weights(entry)
    message = str(caught.value)
    assert "some-lab/some.model_1/config.json could not be fetched: " in message
    assert "\n" not in message
    # what is in the cache needs no network
    snapshot = fill_cache(cache)
    assert fetch_weights(entry).path == snapshot


def test_fetch_passes_on_an_error_without_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise OSError

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(WeightsMissing, match="could not be fetched: OSError"):
        fetch_weights(entry_with(tmp_path, hub()))


def test_fetch_of_what_is_here_or_needs_nothing(tmp_path: Path) -> None:
    write(tmp_path / "files")
    local = entry_with(tmp_path, {"source": "local", "path": "files"})
    assert fetch_weights(local).path == tmp_path / "files"
    with pytest.raises(WeightsMissing, match="has no weights to fetch"):
        fetch_weights(entry_with(tmp_path, None, "bare"))


def test_files_that_lie_beside_are_needed_and_hashed(tmp_path: Path) -> None:
    weights = {
        "source": "page",
        "url": "https://example.org/",
        "file": "decoder.pt",
        "sha256": sha256(b"1"),
        "beside": {"stat.pt": sha256(b"2"), "encoder.pt": None},
        "licence": "MIT",
    }
    entry = entry_with(tmp_path, weights)
    folder = write(tmp_path / "three", {"decoder.pt": b"1", "stat.pt": b"2", "notes.txt": b"?"})
    with pytest.raises(WeightsMissing, match=r"three has no encoder\.pt; it needs 3 files"):
        find_weights(entry, folder)
    write(folder, {"encoder.pt": b"3"})
    # Whether the folder is given or the file in it: all of them make the numbers.
    for given in (folder, folder / "decoder.pt"):
        found = find_weights(entry, given)
        assert found is not None and found.path == folder
        measured = check_hashes(entry, found)
        assert measured == {
            n: sha256(c)
            for n, c in zip(
                ("decoder.pt", "stat.pt", "encoder.pt"), (b"1", b"2", b"3"), strict=True
            )
        }
    assert not is_pinned(entry)
    pinned = {**weights, "beside": {"stat.pt": sha256(b"2"), "encoder.pt": sha256(b"3")}}
    assert is_pinned(entry_with(tmp_path, pinned, "pinned"))
    write(folder, {"stat.pt": b"4"})
    found = find_weights(entry, folder)  # what was found is hashed once
    assert found is not None
    with pytest.raises(WeightsMismatch, match=r"stat\.pt has sha256"):
        check_hashes(entry, found)


@pytest.mark.slow
def test_finding_weights_imports_neither_torch_nor_a_network_client() -> None:
    program = (
        "import sys\n"
        "from vtbench.base.errors import WeightsMissing\n"
        "from vtbench.registry.entries import load_registry\n"
        "from vtbench.weights.entries import find_weights\n"
        "for entry in load_registry().values():\n"
        "    try:\n"
        "        find_weights(entry)\n"
        "    except WeightsMissing:\n"
        "        pass\n"
        "heavy = {'torch', 'diffusers', 'httpx', 'httpx2', 'requests'} & set(sys.modules)\n"
        "raise SystemExit(', '.join(sorted(heavy)) or None)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
