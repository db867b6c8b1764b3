"""Copy the suite's photographs out of scikit-image, byte for byte, and list them.

Writes `photos/` and the rows of reconstruction (crops of 256x256 and whole photographs) and of
detail's textures. Needs scikit-image; README.md says where each photograph comes from.
"""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path

import skimage
from manifest_rows import HERE, Row, make_row, replace_rows

PHOTOS = HERE / "photos"
SIDE = 256

# Cells (row, column) of the 256x256 grid laid from the top left corner. Cells that are nearly
# constant (sky, black surround, empty background) are left out: every tokenizer is right there.
CROPS: dict[str, list[tuple[int, int]]] = {
    "astronaut.png": [(0, 0), (0, 1), (1, 0), (1, 1)],
    "camera.png": [(0, 0), (0, 1), (1, 0), (1, 1)],
    "cell.png": [(1, 1)],
    "chelsea.png": [(0, 0)],
    "coffee.png": [(0, 0), (0, 1)],
    "coins.png": [(0, 0)],
    "hubble_deep_field.jpg": [(0, 1), (1, 0), (1, 1), (2, 2)],
    "ihc.png": [(0, 0), (0, 1), (1, 0), (1, 1)],
    "moon.png": [(0, 1), (1, 0)],
    "motorcycle_left.png": [(0, 0), (0, 1)],
    "retina.jpg": [(1, 1), (2, 0), (2, 1), (3, 1)],
    "rocket.jpg": [(0, 0), (0, 1)],
}
WHOLE = [
    "cell.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
]
TEXTURES = ["brick.png", "grass.png", "gravel.png"]


def copy_photos() -> None:
    """Copy every photograph that a row names from the installed scikit-image to `photos/`."""
    source = Path(skimage.__file__).parent / "data"
    PHOTOS.mkdir(parents=True, exist_ok=True)
    for name in sorted({*CROPS, *WHOLE, *TEXTURES}):
        shutil.copyfile(source / name, PHOTOS / name)


def list_photos() -> list[Row]:
    """Return the rows of the copied photographs."""
    rows = []
    for name, cells in CROPS.items():
        for row, column in cells:
            rows.append(
                make_row(
                    f"photo-{slug(name)}-r{row}c{column}",
                    task="reconstruction",
                    subset="crop256",
                    path=PHOTOS / name,
                    crop=[column * SIDE, row * SIDE, SIDE, SIDE],
                    meta=credit(name),
                )
            )
    for name in WHOLE:
        rows.append(
            make_row(
                f"photo-{slug(name)}-whole",
                task="reconstruction",
                subset="whole",
                path=PHOTOS / name,
                meta=credit(name),
            )
        )
    for name in TEXTURES:
        rows.append(
            make_row(
                f"texture-{slug(name)}",
                task="detail",
                subset="texture",
                path=PHOTOS / name,
                meta=credit(name),
            )
        )
    return rows


def slug(name: str) -> str:
    """Return a file's stem as it stands in an id."""
    return Path(name).stem.replace("_", "-")


def credit(name: str) -> dict[str, str]:
    """Return the row's meta: the release of scikit-image and the file in its data folder."""
    return {"source": f"scikit-image {version('scikit-image')} {name}"}


def main() -> None:
    """Copy the photographs and renew their rows."""
    copy_photos()
    replace_rows("photos", list_photos())


if __name__ == "__main__":
    main()
