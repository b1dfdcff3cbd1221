"""Token files and datasets from Python; tests/cpp/test_dataset.cpp has the rest."""

import hashlib
import itertools
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from orion_ane import Error, _core, data


def write(path: Path, count: int = 101, dtype: str = "<u2") -> Path:
    np.arange(count, dtype=dtype).tofile(path)
    return path


def test_a_token_file_is_a_sequence(tmp_path: Path) -> None:
    tokens = data.TokenFile(write(tmp_path / "a.bin"))
    assert (len(tokens), tokens.width, tokens.kind, tokens.facts) == (101, 2, "raw", None)
    assert (tokens[0], tokens[7], tokens[-1], tokens[np.int64(3)]) == (0, 7, 100, 3)
    assert tokens[10:13].tolist() == [10, 11, 12]
    assert tokens[10:13].dtype == np.int32
    assert tokens[-5::2].tolist() == [96, 98, 100]
    assert tokens[5:5].tolist() == []
    assert tokens.max_token == 100
    assert tokens.path == tmp_path / "a.bin"
    for index in (101, -102):
        with pytest.raises(IndexError, match=f"token {index} of 101"):
            tokens[index]
    with pytest.raises(Error, match="a positive step is needed"):
        tokens[::-1]


def test_formats(tmp_path: Path) -> None:
    wide = write(tmp_path / "a.u32", dtype="<u4")
    assert data.TokenFile(wide).width == 4
    assert data.TokenFile(wide, format="u32")[3] == 3
    with pytest.raises(Error, match="the name does not tell"):
        data.TokenFile(write(tmp_path / "a.tokens"))
    assert len(data.TokenFile(tmp_path / "a.tokens", format="u16")) == 101
    with pytest.raises(Error, match="token format 'i8': auto, u16 or u32 is needed"):
        data.TokenFile(wide, format="i8")


@pytest.mark.parametrize(
    ("magic", "version", "dtype"), [(20240520, 1, "<u2"), (20240801, 7, "<u4")]
)
def test_llmc_files(tmp_path: Path, magic: int, version: int, dtype: str) -> None:
    header = struct.pack("<3i", magic, version, 5).ljust(1024, b"\0")
    path = tmp_path / "a.bin"
    path.write_bytes(header + np.arange(5).astype(dtype).tobytes())
    assert data.is_token_file(path)
    assert data.TokenFile(path)[:].tolist() == [0, 1, 2, 3, 4]
    path.write_bytes(header + b"\0")
    with pytest.raises(Error, match=re.escape("a.bin: the header says 5 tokens")):
        data.TokenFile(path)


def test_the_writer_and_the_documented_layout(tmp_path: Path) -> None:
    path = tmp_path / "o.bin"
    writer = _core.TokenWriter(path, 300, 2, "AB" * 32)
    writer.write(np.array([1, 2], np.int32))
    writer.write(np.zeros(0, np.int32))
    writer.write(np.array([299], np.int64))
    assert (len(writer), writer.width) == (3, 2)
    assert not path.exists()
    writer.commit(4, 50)
    content = path.read_bytes()
    assert content[:64] == struct.pack("<8sIIQQqQQQ", b"ORIONTOK", 1, 2, 3, 300, 2, 4, 50, 0)
    tokens = data.TokenFile(path)
    assert content[64:128].decode() == tokens.hash
    assert content[128:192] == b"AB" * 32
    assert content[192:256].decode() == hashlib.sha256(content[:192]).hexdigest().upper()
    assert np.frombuffer(content[256:], "<u2").tolist() == [1, 2, 299]
    facts = {"vocab": 300, "separator": 2, "tokenizer": "AB" * 32, "documents": 4, "text_bytes": 50}
    assert tokens.facts == facts
    with pytest.raises(Error, match="already committed"):
        writer.write(np.array([1], np.int32))


def test_batches_are_what_they_say(tmp_path: Path) -> None:
    dataset = data.Dataset(write(tmp_path / "a.bin"), batch=3, sequence=10, vocab=101, seed=4)
    assert dataset.windows == 10
    seen: list[int] = []
    for ids, targets in itertools.islice(dataset, 10):
        assert ids.shape == targets.shape == (3, 10)
        assert ids.dtype == targets.dtype == np.int32
        assert (targets == ids + 1).all()
        assert (ids[:, 0] % 10 == 0).all()
        seen += ids[:, 0].tolist()
    assert dataset.cursor == (3, 0)
    for epoch in range(3):
        assert sorted(seen[10 * epoch : 10 * epoch + 10]) == list(range(0, 100, 10))
    again = data.Dataset(tmp_path / "a.bin", batch=3, sequence=10, seed=4)
    assert again.hash == dataset.hash
    assert [i for b in itertools.islice(again, 10) for i in b.ids[:, 0].tolist()] == seen


def test_resuming_and_sharding(tmp_path: Path) -> None:
    tokens = data.TokenFile(write(tmp_path / "a.bin"))
    whole = data.Dataset(tokens, batch=4, sequence=10, seed=1)
    parts = [data.Dataset(tokens, batch=2, sequence=10, seed=1, rank=r, ranks=2) for r in range(2)]
    for _ in range(7):
        both = np.concatenate([next(part).ids for part in parts])
        assert (both == next(whole).ids).all()
    later = data.Dataset(tokens, batch=4, sequence=10, seed=1)
    later.seek(parts[0].cursor)
    assert (next(later).targets == next(whole).targets).all()
    with pytest.raises(Error, match=re.escape("cursor (epoch 0, window 10) does not exist")):
        later.seek((0, 10))


def test_validation_is_kept_apart(tmp_path: Path) -> None:
    dataset = data.Dataset(write(tmp_path / "a.bin"), batch=2, sequence=10, validation=0.3)
    assert (dataset.windows, dataset.validation_windows) == (7, 3)
    batches = list(dataset.validation())
    assert [batch.ids[:, 0].tolist() for batch in batches] == [[70, 80], [90]]
    assert max(next(dataset).ids.max() for _ in range(7)) < 70


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab": 100}, "token 100 has id 100, outside the vocabulary of 100"),
        ({"sequence": 101}, "101 tokens are fewer than one window of sequence 101"),
        ({"batch": 0}, "batch is 0, at least 1 is needed"),
        ({"validation": 1.5}, "validation is 1.5"),
        ({"rank": 1}, "rank 1 of 1"),
    ],
)
def test_what_makes_no_sense(tmp_path: Path, options: dict[str, float], message: str) -> None:
    with pytest.raises(Error, match=re.escape(message)):
        data.Dataset(write(tmp_path / "a.bin"), **({"sequence": 10} | options))  # type: ignore[arg-type]


def test_a_file_that_shrinks(tmp_path: Path) -> None:
    dataset = data.Dataset(write(tmp_path / "a.bin"), sequence=10)
    with (tmp_path / "a.bin").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(Error, match="shorter than when it was opened"):
        next(dataset)
