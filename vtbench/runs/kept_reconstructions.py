"""A run's reconstructions as lossless files (`--keep-reconstructions`), so that a metric can be added
later without the tokenizer.

They lie in `<run>/reconstructions/`, are never published, and are believed only where their pixels have
the digest that the run's row states.
"""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vtbench.base.errors import ImageError, OutputError
from vtbench.base.files import sha256_bytes, write_atomic
from vtbench.images import ANY_PIXELS, RGB8, load_rgb8, pixel_sha256, to_float
from vtbench.results.known_files import RECONSTRUCTIONS
from vtbench.results.rows import Row
from vtbench.runs.reconstruction import Reconstruction
from vtbench.suites.batches import Batch

_PLAIN = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


def name_file(image: str) -> str:
    """Return the file of an image's reconstruction: its id, or a digest of an id that some file system
    would not take, or would take for another one."""
    stem = image if _PLAIN.fullmatch(image) else f"_{sha256_bytes(image.encode())[:32]}"
    return f"{stem}.png"


def has_all(run_folder: Path, rows: Iterable[Row]) -> bool:
    """Return whether a run's folder has a reconstruction of each row that has numbers."""
    folder = run_folder / RECONSTRUCTIONS
    if folder.is_symlink() or not folder.is_dir():
        return False
    there = {path.name for path in folder.iterdir()}
    return all(name_file(row["id"]) in there for row in rows if row["error"] is None)


class ReconstructionSpool:
    """Reconstructions of a run, in a hidden folder until it is complete.

    Args:
        folder: the hidden one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resume(self, rows: Sequence[Row]) -> bool:
        """Return whether the reconstructions of all rows that were kept are here."""
        return all(
            (self.folder / name_file(row["id"])).is_file() for row in rows if row["error"] is None
        )

    def append(self, rows: Sequence[Row], pictures: Sequence[RGB8 | None]) -> None:
        """Write the reconstructions of a batch; they survive a kill from here on."""
        for row, picture in zip(rows, pictures, strict=True):
            if picture is not None and row["error"] is None:
                path = self.folder / name_file(row["id"])
                write_atomic(path, _encode_fast(picture), durable=True)

    def finish(self, run_folder: Path) -> None:
        """Put the folder in its place in a complete run's; an earlier one goes."""
        drop_reconstructions(run_folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for torn in self.folder.glob(".*"):
                torn.unlink(missing_ok=True)
            run_folder.mkdir(parents=True, exist_ok=True)
            self.folder.replace(run_folder / RECONSTRUCTIONS)
        except OSError as error:
            place = run_folder / RECONSTRUCTIONS
            raise OutputError(f"cannot write {place}: {error.strerror or error}") from error

    def discard(self) -> None:
        """Remove the hidden folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _encode_fast(picture: RGB8) -> bytes:
    """Return a lossless PNG: larger than `images.encode_png` makes it, in a fraction of the time."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def drop_reconstructions(run_folder: Path) -> None:
    """Remove the kept reconstructions of a run, which is about to get others. A link is no folder."""
    folder = run_folder / RECONSTRUCTIONS
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


class KeptReconstructor:
    """Reads a run's kept reconstructions in the tokenizer's place.

    Args:
        run_folder: the run's.
        digests: of each image, the digest that its reconstruction's pixels must have.
    """

    def __init__(self, run_folder: Path, digests: Mapping[str, str]) -> None:
        self.folder = run_folder / RECONSTRUCTIONS
        self.digests = digests

    def warm_up(self, batch: Batch) -> None:
        """Do nothing: reading is not timed."""

    def reconstruct(self, batch: Batch, *, quantized: bool) -> Reconstruction:
        """Return the kept images. Raises ImageError for one that is damaged or of another run."""
        pictures = []
        for sample in batch.samples:
            path = self.folder / name_file(sample.id)
            if path.is_symlink():
                raise ImageError(f"{path}: a symbolic link")
            picture = load_rgb8(path, max_pixels=ANY_PIXELS, formats=("PNG",))
            if pixel_sha256(picture) != self.digests[sample.id]:
                raise ImageError(f"{path}: not the reconstruction that the run's row is of")
            pictures.append(picture)
        return Reconstruction(to_float(pictures), tuple({} for _ in batch.samples))
