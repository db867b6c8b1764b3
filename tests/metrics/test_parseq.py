"""docTR's PARSeq through our adapter, against docTR's own steps on the same weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from vtbench.base.errors import MetricError, WeightsMismatch, WeightsMissing
from vtbench.images import RGB8
from vtbench.metrics.ocr import open_reader, parseq
from vtbench.metrics.ocr.reader import read_known_lines

BOXES = [
    [[x, 2], [x + width, 2], [x + width, 2 + height], [x, 2 + height]]
    for x, width, height in ((3, 40, 11), (60, 12, 30), (90, 128, 32), (3, 200, 9))
]


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("VTBENCH_WEIGHTS", str(tmp_path))
    (tmp_path / "doctr-parseq").mkdir()
    return tmp_path / "doctr-parseq"


def pin(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(parseq, "DIGEST", digest[:8])


@pytest.mark.slow
def test_it_reads_what_doctr_reads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("doctr", reason='python-doctr is not installed: pip install ".[doctr]"')
    from doctr.models import recognition
    from doctr.transforms import Resize
    from doctr.utils import Sample
    from torchvision.transforms import Normalize

    torch.manual_seed(0)
    network = recognition.parseq(pretrained=False).eval()
    torch.save(network.state_dict(), folder / parseq.FILE)
    pin(monkeypatch, folder / parseq.FILE)
    reader = open_reader("doctr-parseq", scripts={"latin", "greek"})
    assert reader.unit == "word" and reader.scripts == {"latin"}
    assert len(reader.identity[parseq.FILE]) == 64
    page: RGB8 = np.random.default_rng(0).integers(0, 256, (40, 260, 3), dtype=np.uint8)
    resize = Resize((32, 128), preserve_aspect_ratio=True)
    normalize = Normalize(network.cfg["mean"], network.cfg["std"])
    images = []
    for (left, top), _, (right, bottom), _ in BOXES:
        crop = torch.from_numpy(page[top:bottom, left:right].copy()).permute(2, 0, 1).float() / 255
        images.append(resize(Sample(image=crop)).image)
        assert np.array_equal(parseq.fit_word(page[top:bottom, left:right]), images[-1].numpy())
    with torch.inference_mode():
        batch = torch.stack([normalize(image) for image in images])
        theirs = [word for word, _ in network(batch, return_preds=True)["preds"]]
    assert reader.read_lines(page, BOXES, script="latin") == theirs
    assert reader.read_lines(page, BOXES[:1], script="latin") == theirs[:1]
    # Lines are read word by word; without word boxes, and in other scripts, they are not.
    words = [{"box": box} for box in BOXES[:2]]
    line = {"box": BOXES[3], "words": words}
    assert read_known_lines(reader, page, [line], script="latin") == [" ".join(theirs[:2]).strip()]
    assert read_known_lines(reader, page, [{"box": BOXES[3]}], script="latin") is None
    assert read_known_lines(reader, page, [line], script="greek") is None
    with pytest.raises(MetricError, match="not pages"):
        reader.read_page(page, script="latin")


def test_other_weights_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsMissing, match="fetch doctr-parseq"):
        open_reader("doctr-parseq", scripts={"latin"})
    torch.save({"weight": torch.zeros(2)}, folder / parseq.FILE)
    with pytest.raises(WeightsMismatch, match="does not begin 56125471"):
        open_reader("doctr-parseq", scripts={"latin"})
    pin(monkeypatch, folder / parseq.FILE)
    try:
        import doctr  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(WeightsMissing, match=r'pip install "vtbench\[doctr\]"'):
            open_reader("doctr-parseq", scripts={"latin"})
    else:
        with pytest.raises(WeightsMismatch, match="does not fit"):
            open_reader("doctr-parseq", scripts={"latin"})
