"""The columns of a run's rows: Arrow from the file, numpy for pooling, no dictionary for a row."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vtbench.leaderboard.board import Floats, Images, Part
from vtbench.results.rows import Row

if TYPE_CHECKING:
    import pyarrow as pa

_Mask = NDArray[np.bool_]


class ImageSets:
    """One `Images` for all numbers, of whichever runs, that are of the same images."""

    def __init__(self, cut_from: Mapping[str, str]) -> None:
        """cut_from: images that share a photograph, each with the first of them."""
        self._cut_from = cut_from
        self._known: dict[tuple[tuple[str, ...], tuple[str, ...]], Images] = {}

    def find(self, ids: tuple[str, ...], subsets: tuple[str, ...]) -> Images:
        """Return the images of these ascending ids and of the subset of each."""
        if (ids, subsets) not in self._known:
            clusters = [self._cut_from.get(image, image) for image in ids]
            members: dict[str, set[str]] = {}
            for cluster, subset in zip(clusters, subsets, strict=True):
                members.setdefault(cluster, set()).add(subset)
            names = tuple(sorted(members))
            places = {name: place for place, name in enumerate(names)}
            self._known[ids, subsets] = Images(
                ids,
                np.array([places[cluster] for cluster in clusters], dtype=np.intp),
                names,
                tuple(" + ".join(sorted(members[name])) for name in names),
            )
        return self._known[ids, subsets]


class Selection:
    """Some rows of a run, by ascending id. Columns without nulls are the memory of the table."""

    def __init__(self, table: pa.Table, image_sets: ImageSets) -> None:
        """table: of `ROW_COLUMNS`, in any order."""
        import pyarrow.compute as pc

        order = pc.sort_indices(table["id"].cast("string")).to_numpy()
        if (order[1:] < order[:-1]).any():
            table = table.take(order)
        self._table = table.combine_chunks()
        self._image_sets = image_sets
        self._places = np.arange(len(table))
        self._failed: _Mask = self._table["error"].is_valid().to_numpy()
        self._columns: dict[str, Floats] = {}
        self._texts: dict[str, NDArray[np.object_]] = {}
        self._parts: dict[Part | None, Selection] = {}
        self._images: Images | None = None

    def __len__(self) -> int:
        return len(self._places)

    def choose(self, part: Part | None) -> Selection:
        """Return the rows of a part of the suite, None for no row. All rows are this selection."""
        if part not in self._parts:
            chosen = self._find_part(part)
            selection = self
            if not chosen.all():
                selection = copy.copy(self)
                selection.__dict__.pop("rows", None)
                selection._places = np.flatnonzero(chosen)
                selection._parts, selection._images = {}, None
            self._parts[part] = selection
        return self._parts[part]

    def _find_part(self, part: Part | None) -> _Mask:
        """Return which of the rows are of a part."""
        chosen: _Mask = np.full(len(self), part is not None)
        if part is None:
            return chosen
        texts = {"task": part.task, "subset": part.subset, "script": part.script}
        for column, value in texts.items():
            if value is not None:
                chosen &= self.texts(column) == value
        if part.glyph_px is not None:
            chosen &= self.numbers("glyph_px") == part.glyph_px
        return chosen

    def count_errors(self) -> int:
        """Return how many of the images failed."""
        return int(self._failed[self._places].sum())

    def numbers(self, column: str) -> Floats:
        """Return a column as float64, NaN for null: a file holds no NaN of its own."""
        if column not in self._columns:
            values = self._table[column]
            if values.null_count == len(values):
                self._columns[column] = np.full(len(values), np.nan)
            else:
                array = values.chunk(0).to_numpy(zero_copy_only=False)
                self._columns[column] = array.astype(np.float64, copy=False)
        values = self._columns[column]
        return values if len(self) == len(values) else values[self._places]

    def texts(self, column: str) -> NDArray[np.object_]:
        """Return a column of strings, None for null."""
        if column not in self._texts:
            self._texts[column] = self._table[column].cast("string").to_numpy()
        texts = self._texts[column]
        return texts if len(self) == len(texts) else texts[self._places]

    def lists(self, column: str) -> Floats:
        """Return the numbers of a column of lists, list after list; null is an empty list."""
        lists = self._table[column].take(self._places).combine_chunks()
        floats: Floats = lists.flatten().to_numpy(zero_copy_only=False)
        return floats

    @cached_property
    def rows(self) -> list[Row]:
        """The rows as dictionaries, for the numbers of charts: not of many images."""
        rows: list[Row] = self._table.take(self._places).to_pylist()
        return rows

    def images(self, chosen: _Mask) -> Images:
        """Return the images of the rows that are chosen."""
        if not chosen.all():
            return self._find(chosen)
        if self._images is None:
            self._images = self._find(chosen)
        return self._images

    def _find(self, chosen: _Mask) -> Images:
        ids, subsets = self.texts("id")[chosen], self.texts("subset")[chosen]
        return self._image_sets.find(tuple(ids), tuple(subsets))
