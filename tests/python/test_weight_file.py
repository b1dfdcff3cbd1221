"""Weight files, with coremltools' own writer and reader as judges."""

from __future__ import annotations

import random
import signal
import struct
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orion_ane as orion
import pytest

Array = npt.NDArray[Any]

# type -> (NumPy storage, smallest, largest, coremltools' name); it writes no bf16 and no fp8.
TYPES: dict[str, tuple[type[np.generic], int, int, str]] = {
    "fp16": (np.float16, -9, 9, "fp16"),
    "fp32": (np.float32, -9, 9, "float"),
    "uint8": (np.uint8, 0, 255, "uint8"),
    "int8": (np.int8, -128, 127, "int8"),
    "int16": (np.int16, -32768, 32767, "int16"),
    "uint16": (np.uint16, 0, 65535, "uint16"),
    "int32": (np.int32, -(2**31), 2**31 - 1, "int32"),
    "uint32": (np.uint32, 0, 2**32 - 1, "uint32"),
    "int4": (np.int8, -8, 7, "int4"),
    "uint1": (np.uint8, 0, 1, "uint1"),
    "uint2": (np.uint8, 0, 3, "uint2"),
    "uint3": (np.uint8, 0, 7, "uint3"),
    "uint4": (np.uint8, 0, 15, "uint4"),
    "uint6": (np.uint8, 0, 63, "uint6"),
}


def random_array(rng: np.random.Generator, kind: str) -> Array:
    storage, low, high, _ = TYPES[kind]
    shape = tuple(rng.integers(1, 6, rng.integers(0, 4)))
    return np.asarray(rng.integers(low, high + 1, shape)).astype(storage)


def random_chunks(seed: int, count: int) -> tuple[dict[str, Array], dict[str, str]]:
    rng = np.random.default_rng(seed)
    kinds = [str(kind) for kind in rng.choice(list(TYPES), count)]
    types = {f"layer.{i}.{kind}": kind for i, kind in enumerate(kinds)}
    return {name: random_array(rng, kind) for name, kind in types.items()}, types


def bits(array: Array) -> Array:
    """As coremltools takes and gives it: flat, fp16 as uint16."""
    flat = np.atleast_1d(array).ravel()
    return flat.view(np.uint16) if flat.dtype == np.float16 else flat


@pytest.fixture(scope="module")
def storage() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("coremltools.libmilstoragepython")


def write_theirs(
    storage: Any, path: Path, arrays: dict[str, Array], types: dict[str, str]
) -> list[int]:
    writer = storage._BlobStorageWriter(str(path))
    return [
        getattr(writer, f"write_{TYPES[types[name]][3]}_data")(bits(array))
        for name, array in arrays.items()
    ]


# -- against coremltools --------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "count"), [(seed, 1 + 4 * seed) for seed in range(20)])
def test_same_bytes_as_coremltools(tmp_path: Path, storage: Any, seed: int, count: int) -> None:
    arrays, types = random_chunks(seed, count)
    offsets = write_theirs(storage, tmp_path / "theirs", arrays, types)
    assert orion.weights.write(tmp_path / "ours", arrays, types) == dict(
        zip(arrays, offsets, strict=True)
    )
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_and_every_number_of_unused_bits(
    tmp_path: Path, storage: Any, kind: str
) -> None:
    rng = np.random.default_rng(0)
    dtype, low, high, _ = TYPES[kind]
    arrays = {str(n): rng.integers(low, high + 1, n).astype(dtype) for n in range(1, 20)}
    types = dict.fromkeys(arrays, kind)
    write_theirs(storage, tmp_path / "theirs", arrays, types)
    orion.weights.write(tmp_path / "ours", arrays, types)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_both_readers_agree(tmp_path: Path, storage: Any) -> None:
    arrays, types = random_chunks(99, 80)
    path = tmp_path / "w.bin"
    offsets = orion.weights.write(path, arrays, types)
    ours = orion.weights.read(path)
    theirs = storage._BlobStorageReader(str(path))
    assert list(ours) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(ours[name], array)
        assert (ours[name].dtype, ours.dtype_of(name)) == (array.dtype, types[name])
        read = getattr(theirs, f"read_{TYPES[types[name]][3]}_data")(offsets[name])
        np.testing.assert_array_equal(bits(ours[name]), read)


def test_their_files_are_read_by_offset(tmp_path: Path, storage: Any) -> None:
    arrays, types = random_chunks(7, 30)
    offsets = write_theirs(storage, tmp_path / "w.bin", arrays, types)
    file = orion.weights.read(tmp_path / "w.bin")
    assert list(file) == offsets
    for offset, (name, array) in zip(offsets, arrays.items(), strict=True):
        np.testing.assert_array_equal(file[offset], array.ravel())
        assert file.dtype_of(offset) == types[name]
    orion.weights.patch(tmp_path / "w.bin", offsets[3], list(arrays.values())[3].ravel())


# -- our own face ---------------------------------------------------------------------------------


def test_types_that_numpy_lacks(tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    arrays: dict[str, Array] = {
        "b": np.array([0x3F80, 0xC000], np.uint16),
        "e4": np.array([[1, 2]], np.uint8),
        "e5": np.array(3, np.uint8),
    }
    types = {"b": "bf16", "e4": "fp8e4m3fn", "e5": "fp8e5m2"}
    orion.weights.write(path, arrays, types)
    numbers = [struct.unpack_from("<I", path.read_bytes(), at + 4)[0] for at in (64, 192, 320)]
    assert numbers == [5, 16, 17]
    file = orion.weights.read(path)
    assert {name: file.dtype_of(name) for name in file} == types
    for name, array in arrays.items():
        np.testing.assert_array_equal(file[name], array)
        assert file.shape_of(name) == array.shape


def test_arrays_are_read_only_views_that_outlive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    orion.weights.write(
        path, {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "e": np.zeros((0, 2), np.int8)}
    )
    file = orion.weights.read(path)
    array = file["a"]
    assert not array.flags.owndata
    assert not array.flags.writeable
    assert file["e"].shape == (0, 2)
    orion.weights.patch(path, "a", np.zeros((2, 3), np.float32))
    del file
    np.testing.assert_array_equal(array, np.arange(6).reshape(2, 3))
    assert not orion.weights.read(path)["a"].any()


def test_layouts_of_memory_do_not_matter(tmp_path: Path) -> None:
    wanted = np.arange(12, dtype=np.float32).reshape(3, 4)
    arrays = {
        "t": np.asfortranarray(wanted),
        "s": np.repeat(wanted, 2, 1)[:, ::2],
        "b": wanted.astype(">f4"),
    }
    orion.weights.write(tmp_path / "w.bin", arrays)
    for array in orion.weights.read(tmp_path / "w.bin").values():
        np.testing.assert_array_equal(array, wanted)


def test_mapping(tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    orion.weights.write(path, {"a": np.zeros(3, np.int8)})
    file = orion.weights.read(path)
    assert "a" in file
    assert 64 in file
    assert "b" not in file
    assert file.get("b") is None
    with pytest.raises(KeyError, match="no chunk 'b'"):
        file["b"]
    assert repr(file) == f"<WeightFile {path}: 1 chunks>"


def test_patch_several(tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    offsets = orion.weights.write(
        path,
        {"a": np.zeros(3, np.int8), "b": np.zeros(5, np.uint8), "c": np.zeros((2, 2), np.float16)},
        {"b": "uint3"},
    )
    new = np.array([7, 0, 1, 2, 3], np.uint8)
    orion.weights.patch_all(path, {offsets["a"]: b"abc", "b": new, "c": np.ones(4, np.float16)})
    file = orion.weights.read(path)
    assert file["a"].tobytes() == b"abc"
    np.testing.assert_array_equal(file["b"], new)
    np.testing.assert_array_equal(file["c"], np.ones((2, 2)))


@pytest.mark.parametrize(
    ("key", "data", "message"),
    [
        ("z", b"abc", "no chunk 'z'"),
        (128, b"abc", "no chunk 128"),
        ("a", b"ab", "3 int8 elements take 3 bytes, 2 given"),
        ("a", np.zeros(4, np.int8), r"'a' has shape \(3,\), the array \(4,\)"),
        ("a", np.zeros(3, np.uint8), "'a' is uint8, int8 is given as int8"),
        ("b", np.array([8, 0], np.uint8), "value 8 does not fit uint3"),
        ("b", b"\xff", "the 2 bits after the last element are not zero"),
    ],
)
def test_patches_that_cannot_be(tmp_path: Path, key: Any, data: Any, message: str) -> None:
    path = tmp_path / "w.bin"
    orion.weights.write(
        path, {"a": np.zeros(3, np.int8), "b": np.zeros(2, np.uint8)}, {"b": "uint3"}
    )
    before = path.read_bytes()
    with pytest.raises(orion.Error, match=message):
        orion.weights.patch(path, key, data)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arrays", "types", "message"),
    [
        ({"a": np.zeros(3)}, {}, "'a' is float64, no type of weight files"),
        ({"a": np.zeros(3, bool)}, {}, "'a' is bool"),
        ({"a": np.zeros(3, np.uint8)}, {"a": "uint5"}, "no type 'uint5'"),
        ({"a": np.zeros(3, np.uint8)}, {"a": "bf16"}, "'a' is uint8, bf16 is given as uint16"),
        ({"a": np.zeros(3, np.uint8)}, {"b": "uint4"}, "'b', which is not among the arrays"),
        ({"a\tb": np.zeros(3, np.uint8)}, {}, "control characters"),
        ({"": np.zeros(3, np.uint8)}, {}, "empty name"),
    ],
)
def test_arrays_that_cannot_be_written(
    tmp_path: Path, arrays: Any, types: Any, message: str
) -> None:
    with pytest.raises(orion.Error, match=message):
        orion.weights.write(tmp_path / "w.bin", arrays, types)
    assert list(tmp_path.iterdir()) == []


# -- damage ---------------------------------------------------------------------------------------


def damaged(file: bytes, at: int, form: str, value: int) -> bytes:
    return file[:at] + struct.pack(form, value) + file[at + struct.calcsize(form) :]


@pytest.mark.parametrize(
    ("at", "form", "value", "message"),
    [
        (4, "<I", 1, "version 1, a weight file has version 2"),
        (0, "<I", 3, "chunk 2 of 3 at byte 512: the file ends"),
        (0, "<I", 1, "1 chunks end at byte 132"),
        (192, "<I", 0xDEADBEE0, "chunk 1 of 2 at byte 192: 0xDEADBEE0 instead of the sentinel"),
        (68, "<I", 99, "unknown type number 99"),
        (72, "<Q", 2**63, "beyond the end of the file"),
        (72, "<Q", 100, "0x0 instead of the sentinel"),
        (80, "<Q", 2**64 - 1, "chunks overlap"),
        (208, "<Q", 128, "chunks overlap"),
        (88, "<Q", 4, "no whole number of fp16 elements"),
    ],
)
def test_damage_is_named(tmp_path: Path, at: int, form: str, value: int, message: str) -> None:
    path = tmp_path / "w.bin"
    orion.weights.write(path, {"a": np.zeros(2, np.float16), "b": np.zeros(200, np.uint8)})
    path.write_bytes(damaged(path.read_bytes(), at, form, value))
    with pytest.raises(orion.Error, match=message):
        orion.weights.read(path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    orion.weights.write(path, {"a": np.zeros(2, np.float16), "b": np.zeros(3, np.uint8)})
    file = path.read_bytes()
    for length in range(len(file)):
        path.write_bytes(file[:length])
        with pytest.raises(orion.Error, match=r"w\.bin"):
            orion.weights.read(path)


def test_names_of_another_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    orion.weights.write(path, {"a": np.zeros(2, np.float16)})
    names = Path(f"{path}.names")
    old = names.read_bytes()
    orion.weights.write(path, {"a": np.zeros(2, np.int16)})
    names.write_bytes(old)
    with pytest.raises(orion.Error, match=r"names line 1: type fp16, the file has int16"):
        orion.weights.read(path)
    names.unlink()
    assert list(orion.weights.read(path)) == [64]


# -- crashes --------------------------------------------------------------------------------------

PATCH_FOREVER = """
import itertools, sys, numpy as np, orion_ane as orion
print("ready", flush=True)
for i in itertools.count():
    value = np.full(300_000, i % 256, np.uint8)
    orion.weights.patch_all(sys.argv[1], {"a": value, "b": value})
"""


def check_whole(path: Path) -> int:
    file = orion.weights.read(path)
    values = set(file["a"].tolist()) | set(file["b"].tolist())
    assert len(values) == 1, "old and new content mixed"
    return int(values.pop())


def test_a_kill_at_any_moment_leaves_old_or_new(tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    zeros = np.zeros(300_000, np.uint8)
    orion.weights.write(path, {"a": zeros, "gap": zeros, "b": zeros})
    moments = random.Random(0)
    seen = set()
    for _ in range(10):
        command = [sys.executable, "-c", PATCH_FOREVER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            end = time.monotonic() + moments.uniform(0.005, 0.1)
            while time.monotonic() < end:
                seen.add(check_whole(path))
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        seen.add(check_whole(path))
    assert len(seen) > 1
    orion.weights.patch(path, "a", zeros)
    assert {p.name for p in tmp_path.iterdir()} == {"w.bin", "w.bin.names"}


NO_SPACE = """
import resource, sys, numpy as np, orion_ane as orion
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    if sys.argv[2] == "patch":
        orion.weights.patch(sys.argv[1], "a", np.ones(300_000, np.uint8))
    else:
        orion.weights.write(sys.argv[1], {"a": np.ones(300_000, np.uint8)})
except orion.Error as error:
    print(error)
"""


@pytest.mark.parametrize("action", ["patch", "write"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, action: str) -> None:
    path = tmp_path / "w.bin"
    orion.weights.write(path, {"a": np.zeros(300_000, np.uint8)})
    command = [sys.executable, "-c", NO_SPACE, str(path), action]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "cannot write: File too large" in output
    assert not orion.weights.read(path)["a"].any()
    assert {p.name for p in tmp_path.iterdir()} == {"w.bin", "w.bin.names"}
