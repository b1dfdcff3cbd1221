"""Packed weight files: MIL blob storage, as coremltools writes it.

The format holds typed chunks without names or shapes; those are kept beside the file, in
`<file>.names`, and everything but access by name works without them.

| type | array |
| --- | --- |
| fp16 fp32 int8 int16 int32 uint8 uint16 uint32 | of the NumPy type of that name |
| bf16 | uint16 (the bits) |
| fp8e4m3fn fp8e5m2 | uint8 (the bits) |
| uint1 uint2 uint3 uint4 uint6 | uint8, one element each |
| int4 | int8, one element each |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os import PathLike, fspath
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orion_ane import _core
from orion_ane._core import Error

__all__ = ["WeightFile", "patch", "patch_all", "read", "write"]

Array: TypeAlias = NDArray[Any]
Key: TypeAlias = str | int

_STORAGE = {
    "fp16": np.float16,
    "fp32": np.float32,
    "int8": np.int8,
    "int16": np.int16,
    "int32": np.int32,
    "uint8": np.uint8,
    "uint16": np.uint16,
    "uint32": np.uint32,
    "bf16": np.uint16,
    "fp8e4m3fn": np.uint8,
    "fp8e5m2": np.uint8,
    "uint1": np.uint8,
    "uint2": np.uint8,
    "uint3": np.uint8,
    "uint4": np.uint8,
    "uint6": np.uint8,
    "int4": np.int8,
}
_PACKED = ("uint1", "uint2", "uint3", "uint4", "uint6", "int4")
_BY_DTYPE = {np.dtype(_STORAGE[name]): name for name in list(_STORAGE)[:8]}


class _Chunk(NamedTuple):
    offset: int
    name: str
    type: str
    shape: tuple[int, ...]

    @property
    def key(self) -> Key:
        return self.name or self.offset


class WeightFile(Mapping[Key, Array]):
    """The chunks of a weight file as read-only arrays, not copied unless they are unpacked.

    Keys are names, or offsets where the file has no names. `file[...]` takes either.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self._file = _core.WeightFile(path)
        self._chunks = [_Chunk(*row) for row in self._file.chunks()]
        self._found: dict[Key, _Chunk] = {chunk.offset: chunk for chunk in self._chunks}
        self._found.update((chunk.key, chunk) for chunk in self._chunks)
        self.path = fspath(path)

    def __getitem__(self, key: Key) -> Array:
        chunk = self._chunk(key)
        if chunk.type in _PACKED:
            array: Array = self._file.unpacked(chunk.offset)
            array.setflags(write=False)
        else:
            array = self._file.payload(chunk.offset)
        return array.view(_STORAGE[chunk.type]).reshape(chunk.shape)

    def __iter__(self) -> Iterator[Key]:
        return (chunk.key for chunk in self._chunks)

    def __len__(self) -> int:
        return len(self._chunks)

    def __contains__(self, key: object) -> bool:
        return key in self._found

    def __repr__(self) -> str:
        return f"<WeightFile {self.path}: {len(self)} chunks>"

    def dtype_of(self, key: Key) -> str:
        """The type in the file, such as `bf16` where the array says uint16."""
        return self._chunk(key).type

    def shape_of(self, key: Key) -> tuple[int, ...]:
        """The shape; one axis with all elements where the file has no names beside it."""
        return self._chunk(key).shape

    def offset_of(self, key: Key) -> int:
        """The offset by which MIL text refers to the chunk."""
        return self._chunk(key).offset

    def _chunk(self, key: Key) -> _Chunk:
        try:
            return self._found[key]
        except KeyError:
            raise KeyError(f"{self.path}: no chunk {key!r}") from None


def read(path: str | PathLike[str]) -> WeightFile:
    """Opens a weight file; raises `Error` naming the fault if its structure is wrong."""
    return WeightFile(path)


def write(
    path: str | PathLike[str],
    arrays: Mapping[str, ArrayLike],
    types: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """Replaces the file in one step by the arrays, in their order; returns {name: offset}.

    `types` says what an array's bits or elements stand for where NumPy has no such type: see the
    table at the top. The others are stored as they are.
    """
    types = types or {}
    unknown = [name for name in types if name not in arrays]
    if unknown:
        raise Error(f"weights: a type is given for {unknown[0]!r}, which is not among the arrays")
    rows = []
    for name, value in arrays.items():
        if not name:
            raise Error("weights: an array with an empty name")
        array = np.asarray(value)
        kind = types.get(name) or _type_of(name, array)
        rows.append((name, kind, array.shape, _payload(name, kind, array)))
    return dict(zip(arrays, _core.write_weights(path, rows), strict=True))


def patch(path: str | PathLike[str], key: Key, data: ArrayLike | bytes) -> None:
    """Replaces the content of one chunk, given by name or offset: see `patch_all`."""
    patch_all(path, {key: data})


def patch_all(path: str | PathLike[str], changes: Mapping[Any, ArrayLike | bytes]) -> None:
    """Replaces the contents of several chunks, all or none.

    At any moment, also after a crash, every reader finds the old contents or the new ones. Arrays
    must have the chunk's type and shape (or be flat); bytes are taken as the packed payload.
    """
    file = read(path)
    rows: list[tuple[Key, Any]] = []
    for key, data in changes.items():
        if key not in file:
            raise Error(f"{file.path}: no chunk {key!r}")
        if isinstance(data, bytes | bytearray | memoryview):
            rows.append((key, data))
            continue
        array = np.asarray(data)
        if array.shape not in (file.shape_of(key), (np.prod(file.shape_of(key), dtype=int),)):
            raise Error(
                f"{file.path}: {key!r} has shape {file.shape_of(key)}, the array {array.shape}"
            )
        rows.append((key, _payload(key, file.dtype_of(key), array)))
    _core.patch_weights(path, rows)


def _type_of(name: str, array: Array) -> str:
    kind = _BY_DTYPE.get(array.dtype.newbyteorder("="))
    if kind is None:
        raise Error(f"weights: {name!r} is {array.dtype}, no type of weight files: {_known()}")
    return kind


def _payload(name: Key, kind: str, array: Array) -> Array:
    if kind not in _STORAGE:
        raise Error(f"weights: {name!r}: no type {kind!r} ({_known()})")
    storage = np.dtype(_STORAGE[kind])
    if array.dtype.newbyteorder("=") != storage:
        raise Error(f"weights: {name!r} is {array.dtype}, {kind} is given as {storage}")
    native = np.ascontiguousarray(array, storage)
    return _core.pack_weights(kind, native.view(np.uint8)) if kind in _PACKED else native


def _known() -> str:
    return ", ".join(_STORAGE)
