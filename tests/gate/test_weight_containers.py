"""Files of weights whose header, directory or tensors are not what they say: each is named in a line,
before it is hashed, by every command alike."""

from __future__ import annotations

import io
import json
import os
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vtbench.base.errors import WeightsMismatch
from vtbench.base.locations import data_dir, registry_dir
from vtbench.cli import main
from vtbench.images import encode_png
from vtbench.weights import containers
from vtbench.weights.containers import check_container
from vtbench.weights.states import assign_state, load_state

BODY = bytes(16)
PLACE = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


def header(
    change: dict[str, Any] | bytes, *, length: int | None = None, body: bytes = BODY
) -> bytes:
    """Return a safetensors file of a header, which may say another length than it has."""
    text = change if isinstance(change, bytes) else json.dumps(change).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def moved(*offsets: Any) -> bytes:
    return header({"a": {**PLACE, "data_offsets": list(offsets)}})


SAFETENSORS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "it is empty"),
    "seven bytes": (b"1234567", "its header would be"),
    "a longer header than the file": (header({"a": PLACE}, length=1 << 20), "would be 1,048,576"),
    "the longest header": (header({"a": PLACE}, length=2**64 - 1), "would be 18,446,744"),
    "no header": (header({"a": PLACE}, length=0), "Expecting value"),
    "a shorter header": (header({"a": PLACE}, length=20), "damaged or not complete"),
    "a list": (header(b"[]"), "its header is no mapping"),
    "no text": (header(b'{"\xff": 1}'), "can't decode"),
    "nested": (header(b'{"a":' + b"[" * 100_000), "recursion"),
    "a long number": (header(b'{"a":' + b"9" * 9_000 + b"}"), "integer string"),
    "a key twice": (header(b'{"a":1,"a":2}'), "has 'a' twice"),
    "no place": (header({"a": {"dtype": "F32"}}), "'a' has no place in the file"),
    "a place of text": (moved("0", "16"), "has no place"),
    "a negative place": (moved(-4, 12), "has no place"),
    "a gap": (moved(4, 20), "does not begin where"),
    "backwards": (moved(16, 0), "does not begin where"),
    "one over another": (
        header({"a": PLACE, "b": PLACE}),
        "'b' does not begin where the tensor before it ends",
    ),
    "beyond the end": (moved(0, 20), "its tensors take 20 bytes, and 16 are there"),
    "more behind": (header({"a": PLACE}, body=BODY + b"PK\3\4"), "take 16 bytes, and 20 are there"),
    "cut": (header({"a": PLACE}, body=BODY[:-1]), "take 16 bytes, and 15 are there"),
    "a huge shape": (header({"a": {**PLACE, "shape": [2**40, 2**40]}}), "overflow"),
    "another shape": (header({"a": {**PLACE, "shape": [5]}}), "damaged or not complete"),
    "another type": (header({"a": {**PLACE, "dtype": "X1"}}), "unknown variant"),
    "metadata of numbers": (header({"__metadata__": {"a": 1}, "a": PLACE}), "expected a string"),
}


@pytest.mark.parametrize("case", SAFETENSORS)
def test_a_safetensors_file_that_lies_is_named(tmp_path: Path, case: str) -> None:
    content, message = SAFETENSORS[case]
    path = tmp_path / "mine.safetensors"
    path.write_bytes(content)
    for read in (load_state, check_container):
        with pytest.raises(WeightsMismatch, match=r"mine\.safetensors") as caught:
            read(path)
        assert message in str(caught.value) and "\n" not in str(caught.value)


def test_headers_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(
        header(
            {str(n): {**PLACE, "shape": [0], "data_offsets": [0, 0]} for n in range(9)}, body=b""
        )
    )
    check_container(path)
    monkeypatch.setattr(containers, "MAX_TENSORS", 8)
    with pytest.raises(WeightsMismatch, match="more than 8 tensors"):
        check_container(path)
    monkeypatch.setattr(containers, "MAX_HEADER_BYTES", 100)
    with pytest.raises(WeightsMismatch, match="header is larger than"):
        check_container(path)


def pack(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    target = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w", method) as archive:
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, content in members:
            archive.writestr(name, content)
    return target.getvalue()


def saved(content: object) -> bytes:
    target = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch calls a prototype or deprecated
        torch.save(content, target)
    return target.getvalue()


def members(content: object = None) -> list[tuple[str, bytes]]:
    own = {"a": torch.zeros(4)} if content is None else content
    with zipfile.ZipFile(io.BytesIO(saved(own))) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def quantized() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.zeros(4), 0.1, 0, torch.qint8)


DATA = ("archive/data/0", bytes(16))
ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "compressed": (lambda: pack(members(), zipfile.ZIP_DEFLATED), "compressed archive"),
    "a bomb": (
        lambda: pack([("a/data.pkl", b"\x80\2}."), ("a/data/0", bytes(1 << 24))], zipfile.ZIP_LZMA),
        "compressed archive",
    ),
    "a member twice": (
        lambda: pack([*members(), ("archive/data.pkl", b"\x80\2}.")]),
        "it has two members 'archive/data.pkl'",
    ),
    "nothing in it": (lambda: pack([]), "damaged or not complete"),
    "no program": (lambda: pack([DATA]), "damaged or not complete"),
    "no tensors' bytes": (lambda: pack(members()[:1]), "damaged or not complete"),
    "cut": (lambda: saved({"a": torch.zeros(99)})[:-60], "damaged or not complete"),
    "sparse": (lambda: saved({"a": torch.eye(2).to_sparse()}), "a is nested, quantized or sparse"),
    "quantized": (lambda: saved({"a": quantized()}), "a is nested, quantized or sparse"),
    "a key of a number": (lambda: saved({"a": torch.zeros(4), 3: torch.zeros(4)}), "'3' is a key"),
    "without values": (lambda: saved({"a": torch.empty(4, device="meta")}), "a has no values"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of sparse and quantized tensors
@pytest.mark.parametrize("case", ARCHIVES)
def test_an_archive_that_lies_is_named(tmp_path: Path, case: str) -> None:
    make, message = ARCHIVES[case]
    path = tmp_path / "mine.pt"
    path.write_bytes(make())
    with pytest.raises(WeightsMismatch, match=r"mine\.pt") as caught:
        load_state(path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_network_takes_no_nan(tmp_path: Path) -> None:
    """It is asked of what fits: a small file may hold thousands of views of one storage."""
    path = tmp_path / "mine.pt"
    storage = torch.zeros(5)
    storage[4] = float("nan")
    torch.save({"weight": storage[:4].reshape(2, 2), "bias": storage[3:]}, path)
    state = load_state(path)
    network = torch.nn.Linear(2, 2)
    before = network.weight.detach().clone()
    with pytest.raises(WeightsMismatch, match="bias has NaN"):
        assign_state(network, state)
    assert torch.equal(network.weight, before)


def test_lists_of_members_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.pt"
    path.write_bytes(saved({"a": torch.zeros(4)}))
    check_container(path)
    monkeypatch.setattr(containers, "MAX_DIRECTORY_BYTES", 40)
    with pytest.raises(WeightsMismatch, match="list of members is larger"):
        check_container(path)


def test_a_file_of_holes_is_not_hashed(tmp_path: Path) -> None:
    """A terabyte of zeros that takes no room would be read for an hour."""
    path = tmp_path / "mine.safetensors"
    text = json.dumps({"a": {"dtype": "U8", "shape": [1 << 40], "data_offsets": [0, 1 << 40]}})
    path.write_bytes(struct.pack("<Q", len(text)) + text.encode())
    try:
        os.truncate(path, 8 + len(text) + (1 << 40))
    except OSError:
        pytest.skip("this file system has no files of holes so large")
    with pytest.raises(WeightsMismatch, match="bytes are on the disk"):
        check_container(path)
    assert main(["plan", "-t", "patch-vq-f8", "--weights", f"patch-vq-f8={path}"]) == 2
    empty = tmp_path / "mine.pth"
    empty.touch()
    os.truncate(empty, 1 << 40)
    with pytest.raises(WeightsMismatch, match="0 of its"):
        check_container(empty)


def test_a_file_that_takes_little_room_and_has_no_hole_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system that compresses, or that has not written it yet."""
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"whole")
    monkeypatch.setattr(containers, "_find_hole", lambda path, size: size)
    containers.check_holes(path, SimpleNamespace(st_size=1 << 40, st_blocks=1))  # type: ignore


def test_plan_names_files_that_are_not_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes((data_dir() / "weights" / "patch-vq-f8.safetensors").read_bytes()[:-1])
    call = ["plan", "-t", "patch-vq-f8", "--weights", f"patch-vq-f8={path}"]
    assert main(call) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert f"vtbench: weights of patch-vq-f8: {path} is damaged" in said.err
    out = tmp_path / "out"
    launch = ["launch", *call[1:], "--out", str(out), "--logs", str(tmp_path / "logs")]
    assert main([*launch, "--cluster", "local"]) == 2
    assert said.err == capsys.readouterr().err and not out.exists()
    assert main([*call, "-t", "identity", "--json"]) == 1
    plan = json.loads(capsys.readouterr().out)
    assert [job["tokenizer"] for job in plan["jobs"]] == ["identity"]
    assert [one["tokenizer"] for one in plan["refused"]] == ["patch-vq-f8"]


@pytest.mark.slow
def test_a_dry_run_ends_as_the_run_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is not whole has another digest than the pinned one; what it lacks is said too."""
    pictures, path = tmp_path / "pictures", tmp_path / "mine.safetensors"
    pictures.mkdir()
    (pictures / "a.png").write_bytes(encode_png(np.zeros((16, 16, 3), np.uint8)))
    path.write_bytes((data_dir() / "weights" / "patch-vq-f8.safetensors").read_bytes()[:-1])
    call = ["run", "--images", str(pictures), "-t", "patch-vq-f8", "--out", str(tmp_path / "out")]
    call += ["--weights", f"patch-vq-f8={path}"]
    for more, status in ((["--dry-run"], 2), (["--dry-run", "-t", "identity"], 1), ([], 2)):
        assert main([*call, *more]) == status
        said = capsys.readouterr().err
        assert "1,572,863 are there" in said and said.count("\n") == 1


@pytest.mark.slow
def test_pin_takes_no_file_of_another_tokenizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = data_dir() / "weights" / "patch-vq-f8.safetensors"
    text = (registry_dir() / "patch-vq-f8.yaml").read_text(encoding="utf-8")
    start = text.index("weights:")
    entry = tmp_path / "registry" / "mine.yaml"
    entry.parent.mkdir()
    local = f'weights:\n  source: local\n  path: mine.safetensors\n  sha256: "{"0" * 64}"\n'
    entry.write_text(text[:start] + local + text[text.index("paper:") :])
    before = entry.read_text(encoding="utf-8")
    path = entry.parent / "mine.safetensors"
    call = ["pin", "mine", "--weights", f"mine={path}", "--registry", str(entry.parent)]
    state = load_file(own)
    wrong: dict[str, dict[str, torch.Tensor]] = {
        "is missing": {"other": torch.zeros(2)},
        "and not": {key: value[:-1].contiguous() for key, value in state.items()},
        "has NaN": {key: torch.full_like(value, float("nan")) for key, value in state.items()},
    }
    for message, content in wrong.items():
        save_file(content, path)
        assert main(call) == 2
        said = capsys.readouterr().err
        assert message in said and path.name in said and said.count("\n") == 1
        assert entry.read_text(encoding="utf-8") == before
    save_file(state, path)
    assert main(call) == 0
    assert entry.read_text(encoding="utf-8") != before


@pytest.mark.slow
def test_what_does_not_fit_a_network_names_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "a.png").write_bytes(encode_png(np.zeros((16, 16, 3), np.uint8)))
    save_file({"other": torch.zeros(2)}, tmp_path / "mine.safetensors")
    given = ["-t", "ref-vq-f16", "--weights", f"ref-vq-f16={tmp_path / 'mine.safetensors'}"]
    for call in (
        ["drift", str(pictures / "a.png"), *given],
        ["run", "--images", str(pictures), *given, "--out", str(tmp_path / "out")],
    ):
        assert main(call) == 2
        said = capsys.readouterr().err
        assert "mine.safetensors: " in said and "unexpected other" in said
        assert said.count("\n") == 1
