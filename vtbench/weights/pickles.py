"""Reading of tensors from a pickle without running its program.

A pickle is a program that imports names and calls them. Here every name but the few by which torch
writes a tensor is a placeholder that keeps what it is given and does nothing, so that a checkpoint
with somebody's config object beside its state can be read without that somebody's code, and one that
would run a command runs none. The formats are those of torch.save (zip archives, and the stream
before torch 1.6) and of torch.jit.save, whose archive has the same pickle of its modules' attributes
beside its program (torch/serialization.py, torch/_utils.py, torch/csrc/jit/serialization).
"""

from __future__ import annotations

import math
import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import torch
from torch import Tensor

from vtbench.base.errors import WeightsMismatch

MAX_PROGRAM_BYTES = 256 * 1024 * 1024
"""Of the pickle of an archive, without the tensors, which lie beside it."""

MAX_THINGS = 200_000
"""In a pickle; a small one can name one tensor as often as it likes."""

MAX_PATH = 4096
"""Characters of a tensor's name."""

STORAGES: Mapping[str, torch.dtype] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
"""The names under which torch pickles the type of a tensor's memory."""

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001

DAMAGED = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, struct.error, EOFError, OSError, MemoryError),
    *(ArithmeticError, AttributeError, LookupError, NotImplementedError, RecursionError),
    *(RuntimeError, TypeError, ValueError),
)
"""What a damaged pickle can raise: it is a program that goes wrong somewhere."""


class Placeholder(dict[Any, Any]):
    """Stands for an object of any class: its items, and its attributes as items. Never more."""

    def __new__(cls, *_arguments: object, **_named: object) -> Placeholder:
        """Take any arguments, and keep none."""
        return super().__new__(cls)

    def __init__(self, *_arguments: object, **_named: object) -> None:
        super().__init__()

    def take_state(self, state: object) -> None:
        """Keep what the pickle sets as the object's state: its attributes, as items."""
        if type(state) is tuple and len(state) == 2:  # attributes, and those of slots
            state = state[0] if isinstance(state[0], dict) else state[1]
        if isinstance(state, dict):
            self.update(state)

    def __hash__(self) -> int:  # type: ignore[override]  # may be a key or in a set
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def append(self, _item: object) -> None:
        """Do nothing, as the list would that this stands for."""

    extend = add = append


@dataclass(frozen=True, eq=False)
class Storage:
    """The memory of tensors, still in the file. key: its name there. size: in elements."""

    dtype: torch.dtype
    key: str
    size: int


@dataclass(frozen=True, eq=False)
class Pickled:
    """A tensor that is still in the file."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.shape, *self.strides)
        last = sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        empty = 0 in self.shape
        if any(type(number) is not int or number < 0 for number in numbers) or (
            not empty and self.offset + last >= self.storage.size
        ):
            raise ValueError("a tensor lies outside of its storage")
        # One number repeated over a thousand gigabytes would fit otherwise.
        if math.prod(self.shape) > self.storage.size:
            raise ValueError("a tensor is larger than its storage")

    def open(self, data: bytes | bytearray) -> Tensor:
        """Return the tensor, whose storage has these bytes; contiguous, of its own memory."""
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.storage.dtype)
        whole = torch.frombuffer(bytearray(data), dtype=self.storage.dtype)
        found = whole.as_strided(self.shape, self.strides, self.offset)
        return found.clone(memory_format=torch.contiguous_format)


def _tensor(storage: object, offset: Any, shape: Any, strides: Any, *_others: object) -> object:
    if isinstance(storage, Placeholder):
        return storage
    if not isinstance(storage, Storage):
        raise ValueError("a tensor without storage")
    return Pickled(storage, offset, tuple(shape), tuple(strides))


def _first(tensor: object, *_others: object) -> object:
    return tensor


def _subclass(_function: object, _type: object, arguments: Any, _state: object) -> object:
    return _tensor(*arguments)


MADE_HERE: Mapping[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
    ("torch._tensor", "_rebuild_from_type_v2"): _subclass,
}
"""What torch calls to make a tensor, and what is called here."""


class _InertUnpickler(pickle._Unpickler):
    """The unpickler of the standard library in Python: the one in C reserves as much memory as the
    pickle asks for."""

    dispatch: ClassVar[Any] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="utf-8")
        self.placeholders: set[str] = set()
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in MADE_HERE:
            return MADE_HERE[module, name]
        if module in ("torch", "torch.storage") and name in STORAGES:
            return STORAGES[name]
        if (module, name) == ("torch", "Size"):
            return tuple
        if (module, name) != ("collections", "OrderedDict"):
            self.placeholders.add(f"{module}.{name}")
        return Placeholder

    def load_build(self) -> None:
        """Give a placeholder its state, and nothing else: by default the pickle could set attributes
        of whatever lies on its stack."""
        state = self.stack.pop()  # type: ignore[attr-defined]
        built = self.stack[-1]  # type: ignore[attr-defined]
        if type(built) is Placeholder:
            built.take_state(state)

    dispatch[pickle.BUILD[0]] = load_build

    def persistent_load(self, pid: Any) -> Storage | Placeholder:
        kind, dtype, key, _location, size, *view = pid
        if kind != "storage" or (view and view[0]):
            raise ValueError(f"an unknown kind of storage: {kind}")
        if not isinstance(dtype, torch.dtype):  # of numbers that no tokenizer has (complex, 8-bit)
            return Placeholder()
        if type(size) is not int or size < 0:
            raise ValueError("a storage without size")
        return self.storages.setdefault(str(key), Storage(dtype, str(key), size))


class PickledFile:
    """A checkpoint of torch.save or torch.jit.save, opened without running it; a context manager.

    content: what the pickle holds, with a `Placeholder` for every object and a `Pickled` for every
    tensor. placeholders: the names of the classes and functions that were not called. Raises
    WeightsMismatch for a file that is none, is damaged, or whose pickle is too large.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb")
        self._archive: zipfile.ZipFile | None = None
        self._places: dict[str, tuple[int, int]] = {}
        try:
            self.content, self.placeholders = self._read()
        except DAMAGED as error:
            self._file.close()
            raise self._damaged(error) from None

    def __enter__(self) -> PickledFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _damaged(self, error: BaseException) -> WeightsMismatch:
        text = " ".join(str(error).split())[:120]
        return WeightsMismatch(
            f"{self.path} is damaged or not complete ({type(error).__name__}: {text}); fetch it again"
        )

    def _read(self) -> tuple[Any, frozenset[str]]:
        if self._file.read(4) != b"PK\3\4":
            return self._read_stream()
        self._archive = zipfile.ZipFile(self._file)
        members = {member.filename: member for member in self._archive.infolist()}
        program = next((name for name in members if name.endswith("/data.pkl")), None)
        if program is None:
            raise ValueError("a zip archive without data.pkl")
        member = members[program]
        if member.file_size > MAX_PROGRAM_BYTES:
            raise ValueError(f"its pickle is larger than {MAX_PROGRAM_BYTES >> 20} MiB")
        self._folder = member.filename.removesuffix("data.pkl")
        order = self._folder + "byteorder"
        if order in members:
            with self._archive.open(order) as said:
                if said.read(16) != b"little":
                    raise ValueError("its numbers are big-endian")
        with self._archive.open(member) as stream:
            unpickler = _InertUnpickler(stream)
            return unpickler.load(), frozenset(unpickler.placeholders)

    def _read_stream(self) -> tuple[Any, frozenset[str]]:
        # torch before 1.6: magic number, version, system, the content, the storages' keys in order,
        # and then of each its number of elements and its bytes.
        self._file.seek(0)
        magic, version = (_InertUnpickler(self._file).load() for _ in range(2))
        if magic != LEGACY_MAGIC or version != LEGACY_PROTOCOL:
            raise ValueError("neither a zip archive nor a stream of torch.save")
        _InertUnpickler(self._file).load()
        unpickler = _InertUnpickler(self._file)
        content = unpickler.load()
        keys = _InertUnpickler(self._file).load()
        end = self.path.stat().st_size
        for key in keys:
            (n,) = struct.unpack("<q", self._file.read(8))
            storage = unpickler.storages[key]
            if n != storage.size or self._file.tell() + n * storage.dtype.itemsize > end:
                raise EOFError(f"storage {key} is cut off")
            self._places[key] = (self._file.tell(), n * storage.dtype.itemsize)
            self._file.seek(n * storage.dtype.itemsize, 1)
        return content, frozenset(unpickler.placeholders)

    def open(self, tensor: Pickled) -> Tensor:
        """Return a tensor of the content. Raises WeightsMismatch where the file does not have it."""
        storage = tensor.storage
        try:
            if self._archive is None:
                start, length = self._places[storage.key]
                self._file.seek(start)
                data = self._file.read(length)
            else:
                member = self._archive.getinfo(f"{self._folder}data/{storage.key}")
                # torch writes them uncompressed: a small file cannot become a large one.
                if member.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"storage {storage.key} is compressed")
                if member.file_size != storage.size * storage.dtype.itemsize:
                    raise ValueError(f"storage {storage.key} has {member.file_size} bytes")
                data = self._archive.read(member)
            return tensor.open(data)
        except DAMAGED as error:
            raise self._damaged(error) from None


def name_tensors(content: object) -> dict[str, Pickled]:
    """Return the tensors of nested mappings by the path of their keys, joined by dots; an object's
    attributes are its keys, so a TorchScript module's tensors have the names of its state_dict.

    Lists are passed over. Raises WeightsMismatch for two tensors of one path, or too many.
    """
    found: dict[str, Pickled] = {}
    todo: list[tuple[str, object, int]] = [("", content, 0)]
    passed = 0
    while todo:
        path, item, depth = todo.pop()
        passed += 1
        if passed > MAX_THINGS or depth > 100 or len(path) > MAX_PATH:
            raise WeightsMismatch(f"the file holds more than {MAX_THINGS} things, or itself")
        if isinstance(item, Pickled):
            if path in found:
                raise WeightsMismatch(f"the file holds two tensors at {path}")
            found[path] = item
        elif isinstance(item, dict):
            prefix = path + "." if path else ""
            todo += [(f"{prefix}{key}", value, depth + 1) for key, value in item.items()]
    return found
