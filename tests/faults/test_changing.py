"""Files that change between the moment when they are listed and the moment when they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vtbench.base.errors import ImageError
from vtbench.images import encode_png
from vtbench.suites.batches import PixelCache, load_pixels, make_batches
from vtbench.suites.image_folder import folder_suite


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pics"
    folder.mkdir()
    for level in (1, 2):
        (folder / f"{level}.png").write_bytes(encode_png(np.full((16, 16, 3), level, np.uint8)))
    return folder


@pytest.mark.parametrize("how", ["replaced", "rewritten", "removed"])
def test_a_picture_that_is_replaced_during_a_run_fails_by_name(pictures: Path, how: str) -> None:
    """Its row would have other pixels than the suite's digest is of."""
    suite = folder_suite(pictures)
    path = pictures / "2.png"
    other = encode_png(np.full((16, 16, 3), 200, np.uint8))
    if how == "replaced":
        (pictures / "new").write_bytes(other)
        (pictures / "new").replace(path)
    elif how == "rewritten":
        path.write_bytes(other.ljust(path.stat().st_size, b"\0"))
    else:
        path.unlink()
    batches = make_batches(suite.samples, PixelCache(), batch_size=8)
    errors = {sample.id: batch.error for batch in batches for sample in batch.samples}
    assert errors.keys() == {"1.png", "2.png"} and errors["1.png"] is None
    assert "2.png: " in str(errors["2.png"])
    if how != "removed":
        assert "changed after the run had begun" in str(errors["2.png"])
        assert folder_suite(pictures).sha256 != suite.sha256


def test_a_picture_that_did_not_change_is_read(pictures: Path) -> None:
    suite = folder_suite(pictures)
    assert [int(load_pixels(sample)[0, 0, 0]) for sample in suite.samples] == [1, 2]
    (pictures / "1.png").chmod(0o600)  # its time of change: nobody can tell what else did
    with pytest.raises(ImageError, match="changed after the run had begun"):
        load_pixels(suite.samples[0])
