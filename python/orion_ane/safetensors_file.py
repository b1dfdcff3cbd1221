"""One safetensors file as mapped tensors. The package validates it; nothing is copied."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from orion_ane._core import Error

_FLOATS = {"F32": ("fp32", "<f4"), "F16": ("fp16", "<f2"), "BF16": ("bf16", "<u2")}
# For each type: an integer as wide, and the exponent bits that are all ones in NaN and infinity.
_EXPONENTS = {"fp32": ("<u4", 0x7F800000), "fp16": ("<u2", 0x7C00), "bf16": ("<u2", 0x7F80)}
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Stored:
    """A tensor where it lies; bf16 as the uint16 that hold it, other types of the file as bytes."""

    dtype: str
    shape: tuple[int, ...]
    raw: NDArray[Any]

    def array(self) -> NDArray[Any]:
        """The tensor as NumPy can compute with it: bf16 widened to fp32, without loss."""
        if self.dtype != "bf16":
            return self.raw
        return (self.raw.astype("<u4") << 16).view("<f4")

    def require_finite(self, what: str) -> None:
        """Error naming the place of the first NaN or infinity, or a type that is not a float."""
        if self.dtype not in _EXPONENTS:
            known = ", ".join(_FLOATS)
            raise Error(f"{what} is {self.dtype}; weights may be {known}")
        unsigned, mask = _EXPONENTS[self.dtype]
        bits = self.raw.reshape(-1).view(unsigned)
        for start in range(0, bits.size, _CHUNK):
            bad = (bits[start : start + _CHUNK] & mask) == mask
            if bad.any():
                index = np.unravel_index(start + int(bad.argmax()), self.shape)
                place = [int(i) for i in index]
                raise Error(f"{what} is {self.array()[index]} at {place}; weights must be finite")


def read_safetensors(path: Path) -> dict[str, Stored]:
    """Every tensor of a file, of whatever type; Error naming the file if it is damaged."""
    try:
        with safetensors.safe_open(path, framework="numpy"):
            pass  # opening checks the header against itself and against the file's size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        data = np.memmap(path, dtype=np.uint8, mode="r")[8 + length :]
    except (
        safetensors.SafetensorError,
        OSError,
        ValueError,
        RecursionError,
        struct.error,
    ) as error:
        raise Error(f"{path}: not a safetensors file: {error}") from error
    header.pop("__metadata__", None)
    return {
        name: _tensor(data, entry, f"{path}: tensor '{name}'") for name, entry in header.items()
    }


def _tensor(data: NDArray[np.uint8], entry: dict[str, Any], what: str) -> Stored:
    begin, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if not 0 <= begin <= end <= data.size:
        raise Error(f"{what} lies at bytes {begin} to {end} of {data.size}")
    raw = data[begin:end]
    if entry["dtype"] not in _FLOATS:
        return Stored(entry["dtype"], shape, raw)
    dtype, numpy_type = _FLOATS[entry["dtype"]]
    elements = np.require(raw.view(numpy_type), requirements="A")
    if elements.size != int(np.prod(shape, dtype=object)):
        raise Error(f"{what} has {elements.size} elements, and its shape is {shape}")
    return Stored(dtype, shape, elements.reshape(shape))
