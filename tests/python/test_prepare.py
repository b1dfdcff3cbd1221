"""Text to token files: readers, tokenizers, the command."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orion_ane
import pytest
from orion_ane import Error, cli, data, documents, tokenizer, tokenizer_training
from orion_ane import prepare as preparation
from orion_ane.documents import Part, Reading
from orion_ane.prepare import LongText, prepare
from orion_ane.tokenizer import Tokenizer
from samples import llama2c_entries, random_texts, write_llama2c_model, write_llama2c_tokenizer

Shared = Callable[[str], Path]
Capture = pytest.CaptureFixture[str]

BUNDLED = Path(orion_ane.__file__).parent / "models" / "stories260K"
PLAY = Path(__file__).parents[2] / "docs" / "data" / "shakespeare.txt"
STORIES = ["Once upon a time.", "Lily saw a  big, red ball.\nShe ran.", "naïve \U0001f600"]


@pytest.fixture(scope="module")
def stories() -> Tokenizer:
    return tokenizer.load(BUNDLED)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Byte-level tokenizers of the play."""
    directory = tmp_path_factory.mktemp("learnt")
    lines = PLAY.read_text().splitlines(keepends=True)
    for kind in tokenizer_training.TYPES:
        tokenizer_training.train(lines, directory / kind, vocab=600, type=kind)
    return directory


def texts_of(paths: list[Path], **options: Any) -> list[str]:
    """The documents, whole."""
    texts, parts = [], []
    for text, is_last in documents.read([str(path) for path in paths], Reading(**options)):
        parts.append(text)
        if is_last:
            texts.append("".join(parts))
            parts.clear()
    assert not parts
    return texts


# -- readers --------------------------------------------------------------------------------------


def test_a_text_file_is_a_document(tmp_path: Path) -> None:
    a, b = tmp_path / "a.txt", tmp_path / "b.md"
    a.write_bytes("\ufeffé\r\n\n<|end|>\n".encode())
    b.write_bytes(b"no newline")
    assert texts_of([a, b]) == ["é\r\n\n<|end|>\n", "no newline"]


def test_a_line_between_documents(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"--\n\none\n\ntwo\n\n--\r\n--\n three \n--x\n--")
    assert texts_of([path], separator="--") == ["one\n\ntwo", " three \n--x"]


def test_long_lines_come_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_LONGEST_PIECE", 9)
    text = "é" * 20 + "\n--\n--ö--------\n--\n"
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    assert texts_of([tmp_path / "a.txt"], separator="--") == ["é" * 20, "--ö--------"]
    assert texts_of([tmp_path / "a.txt"]) == [text]


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a\\n\\u00e9"}\n\n{"id": 1, "text": "b"}', encoding="utf-8")
    assert texts_of([path]) == ["a\né", "b"]
    path.write_text('{"text": ""}\n{"text": null}\n{"text": "c"}\n')
    assert texts_of([path], skip_empty=True) == ["c"]
    path.write_text('{"body": "d"}\n')
    assert texts_of([path], field="body") == ["d"]


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.txt", b"", {}, "a.txt: no text in it"),
        ("a.txt", b"\n--\n\n", {"separator": "--"}, "a.txt: no text in it"),
        ("a.txt", b"fine\nf\xffne\n", {}, "a.txt:2: not UTF-8: byte 0xFF at 1"),
        ("a.txt", b"fine\ncut \xc3", {}, "a.txt:2: not UTF-8: byte 0xC3"),
        ("a.jsonl", b'{"text": "a"}\n{"text": \xe9}\n', {}, "a.jsonl:2: not UTF-8: byte 0xE9 at 9"),
        ("a.jsonl", b'\n{"text": "a"\n', {}, "a.jsonl:2: not JSON: "),
        ("a.jsonl", b"[1]\n", {}, "a.jsonl:1: a JSON object is needed on each line, not list"),
        ("a.jsonl", b'{"id": 1, "b": 2}\n', {}, "no field 'text' (there are: 'id', 'b'); say --f"),
        ("a.jsonl", b'{"text": 1}\n', {}, "a.jsonl:1: 'text' is int, and text is needed"),
        ("a.jsonl", b'{"text": ""}\n', {}, "a.jsonl:1: 'text' is empty (--skip-empty leaves"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', {}, "a.jsonl:1: character 0 is U+D800"),
        ("a.jsonl", b'{"text": ""}\n', {"skip_empty": True}, "a.jsonl: no text in it"),
        ("a.jsonl", b"[" * 100_000, {}, "a.jsonl:1: not JSON: "),
        ("a.csv", b"x", {}, "a.csv: the suffix does not tell the format (.txt, "),
    ],
)
def test_text_that_cannot_be_used(
    tmp_path: Path, name: str, content: bytes, options: dict[str, Any], message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Error, match=re.escape(message)):
        texts_of([tmp_path / name], **options)


def test_progress_counts_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("é\nb\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "a"}\n')
    paths = [str(tmp_path / "a.txt"), str(tmp_path / "b.jsonl")]
    counts: list[int] = []
    list(documents.read(paths, Reading(), counts.append))
    assert documents.total_size(paths) == sum(counts) == 19
    assert documents.total_size([*paths, "-"]) is None
    with pytest.raises(Error, match="nowhere: no such file"):
        documents.total_size(["nowhere"])


def test_parquet_without_pyarrow_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(Error, match=re.escape("pip install 'orion-ane[parquet]'")):
        texts_of([tmp_path / "a.parquet"])
    with pytest.raises(Error, match="cannot come from stdin"):
        list(documents.read(["-"], Reading(format="parquet")))


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pip install '.[parquet]'")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pip install '.[parquet]'")
    path = tmp_path / "a.parquet"
    many = [f"text {i}" for i in range(2500)]
    parquet.write_table(pyarrow.table({"text": many, "n": range(2500)}), path, row_group_size=700)
    assert texts_of([path]) == many
    with pytest.raises(Error, match=re.escape("no column 'body' (there are: 'text', 'n')")):
        texts_of([path], field="body")
    with pytest.raises(Error, match="row 1: 'n' is int"):
        texts_of([path], field="n")
    parquet.write_table(pyarrow.table({"text": [*many, "", None]}), path)
    assert texts_of([path], skip_empty=True) == many
    with pytest.raises(Error, match="row 2501: 'text' is empty"):
        texts_of([path])
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(Error, match=re.escape("a.parquet: not readable as Parquet")):
        texts_of([path])


# -- preparing ------------------------------------------------------------------------------------


def whole(texts: list[str]) -> list[Part]:
    return [Part(text, True) for text in texts]


def prepared(path: Path) -> list[int]:
    return list(data.TokenFile(path)[:].tolist())


@pytest.mark.parametrize(
    ("separator", "before", "after"),
    [(None, [1], []), ("bos", [1], []), ("eos", [], [2]), ("none", [], []), (7, [7], [])],
)
def test_documents_and_what_separates_them(
    tmp_path: Path, stories: Tokenizer, separator: Any, before: list[int], after: list[int]
) -> None:
    path = tmp_path / "a.bin"
    (summary,) = prepare(whole(STORIES), path, stories, separator=separator)
    encoded = [stories.encode(text, add_bos=False) for text in STORIES]
    ids = [token for text in encoded for token in (*before, *text, *after)]
    assert prepared(path) == ids
    text_bytes = sum(len(text.encode()) for text in STORIES)
    assert (summary.documents, summary.tokens, summary.text_bytes) == (3, len(ids), text_bytes)
    assert (summary.width, summary.vocab) == (2, 512)
    facts = data.TokenFile(path).facts
    assert facts == {
        "vocab": 512,
        "separator": summary.separator,
        "tokenizer": stories.hash,
        "documents": 3,
        "text_bytes": text_bytes,
    }


def test_the_vocabulary_decides_the_width(tmp_path: Path, stories: Tokenizer) -> None:
    for vocab, width in ((65536, 2), (65537, 4)):
        path = tmp_path / f"{vocab}.bin"
        (summary,) = prepare(whole(STORIES), path, stories, vocab=vocab)
        assert summary.width == data.TokenFile(path).width == width
    assert prepared(tmp_path / "65536.bin") == prepared(tmp_path / "65537.bin")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab": 300}, "outside the vocabulary of 300 (is this the model's own tokenizer?)"),
        ({"separator": 512}, "separator 512 is not in the vocabulary of 512"),
        ({"separator": "cls"}, "separator 'cls': 'bos', 'eos', 'none' or a token id is needed"),
        ({"validation": 0.2}, "a-validation.bin: no document of 3 would be in it"),
        ({"validation": 1.0}, "validation is 1.0, a share from 0 to below 1 is needed"),
    ],
)
def test_nothing_is_written_after_an_error(
    tmp_path: Path, stories: Tokenizer, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(Error, match=re.escape(message)):
        prepare(whole(STORIES), tmp_path / "a.bin", stories, **options)
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_is_replaced_only_if_asked(tmp_path: Path, stories: Tokenizer) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(Error, match=re.escape("a.bin: already exists (--force replaces it)")):
        prepare(whole(STORIES), path, stories)

    def broken() -> Any:
        yield Part("fine", True)
        raise Error("broken")

    with pytest.raises(Error, match="broken"):
        prepare(broken(), path, stories, replace=True)
    assert path.read_bytes() == b"old"
    prepare(whole(STORIES), path, stories, replace=True)
    assert prepared(path)[0] == 1


def test_validation_documents_are_spread_evenly(tmp_path: Path, stories: Tokenizer) -> None:
    texts = [f"{index}" for index in range(20)]
    path = tmp_path / "a.bin"
    train, held = prepare(whole(texts), path, stories, validation=0.25)
    assert (train.documents, held.documents) == (15, 5)
    assert held.path == str(tmp_path / "a-validation.bin")
    chosen = stories.decode(prepared(tmp_path / "a-validation.bin")).split()
    assert stories.encode("3", add_bos=False) == prepared(tmp_path / "a-validation.bin")[1:3]
    assert len(chosen) <= 5


def test_the_play_round_trips(tmp_path: Path, stories: Tokenizer) -> None:
    text = PLAY.read_text()
    prepare(documents.read([str(PLAY)], Reading()), tmp_path / "a.bin", stories)
    ids = prepared(tmp_path / "a.bin")
    assert ids == stories.encode(text)
    assert stories.decode(ids) == text


# -- long documents -------------------------------------------------------------------------------


def tokenizer_named(name: str, learnt: Path, tmp_path: Path, shared: Shared) -> Tokenizer:
    match name:
        case "stories260K":
            return tokenizer.load(BUNDLED)
        case "llama2.c":
            return tokenizer.load(shared("stories260K/tok512.bin"))
        case "llama2":
            return tokenizer.load(shared("tokenizers/llama2.model"))
        case "gpt2":
            for part in ("vocab.json", "merges.txt"):
                (tmp_path / part).write_bytes(shared(f"tokenizers/gpt2_{part}").read_bytes())
            return tokenizer.load(tmp_path)
    return tokenizer.load(learnt / name)


@pytest.mark.parametrize("name", ["stories260K", "llama2.c", "llama2", "gpt2", "bpe", "unigram"])
def test_a_text_in_pieces_has_the_ids_of_the_whole(
    name: str, learnt: Path, tmp_path: Path, shared: Shared
) -> None:
    words = tokenizer_named(name, learnt, tmp_path, shared)
    text = PLAY.read_text()[:60_000] + "".join(random_texts(2000)) + "\r\n".join(STORIES * 99)
    for size in (700, 5000):
        long, ids, cuts = LongText(words), [], 0
        for start in range(0, len(text), size):
            ids += (some := long.push(text[start : start + size]))
            cuts += bool(some)
        assert ids + long.finish() == words.encode(text, add_bos=False)
        assert cuts > len(text) // size // 2
        assert not long.begun


def test_long_documents_among_short_ones(
    tmp_path: Path, stories: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["short", PLAY.read_text()[:20_000], "", "x" * 3000, "a b", " ", "end " * 400]
    parts: list[Part] = []
    for text in texts:
        parts += [Part(text[i : i + 500], False) for i in range(0, len(text), 500)]
        parts.append(Part("", True))
    results = []
    for batch in (1 << 20, 2000, 500):
        monkeypatch.setattr(preparation, "BATCH", batch)
        path = tmp_path / f"{batch}.bin"
        (summary,) = prepare(parts, path, stories)
        results.append((prepared(path), summary.documents, summary.text_bytes))
    assert results[0] == results[1] == results[2]
    assert results[0][1] == 7


def test_text_that_has_no_cut_waits(stories: Tokenizer) -> None:
    long = LongText(stories)
    assert [long.push("x" * 1000) for _ in range(5)] == [[]] * 5
    assert long.finish() == stories.encode("x" * 5000, add_bos=False)


# -- tokenizers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", tokenizer_training.TYPES)
def test_trained_tokenizers_say_every_text(kind: str, learnt: Path) -> None:
    words = tokenizer.load(learnt / kind)
    assert words.vocab_size == 600
    assert (words.bos_id, words.eos_id, words.eos_ids, words.adds_bos) == (0, 0, (0,), False)
    texts = random_texts(200) + STORIES
    assert [words.decode(words.encode(text)) for text in texts] == texts
    assert words.encode_batch(texts) == [words.encode(text) for text in texts]
    play = PLAY.read_text()
    assert len(words.encode(play)) < 0.55 * len(play)


@pytest.mark.parametrize("kind", tokenizer_training.TYPES)
def test_transformers_loads_trained_tokenizers(kind: str, learnt: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="pip install '.[reference]'")
    theirs = transformers.AutoTokenizer.from_pretrained(learnt / kind)
    ours = tokenizer.load(learnt / kind)
    for text in random_texts(50) + STORIES:
        assert theirs.encode(text) == ours.encode(text)
    assert (theirs.bos_token, theirs.eos_token) == ("<|endoftext|>", "<|endoftext|>")


def test_training_has_limits(tmp_path: Path) -> None:
    with pytest.raises(Error, match="vocab is 256, at least 257 is needed"):
        tokenizer_training.train(["a"], tmp_path / "a", vocab=256)
    with pytest.raises(Error, match="type 'wordpiece': one of bpe, unigram is needed"):
        tokenizer_training.train(["a"], tmp_path / "a", vocab=300, type="wordpiece")

    def broken() -> Any:
        yield "a"
        raise Error("broken")

    with pytest.raises(Error, match="broken"):
        tokenizer_training.train(broken(), tmp_path / "a", vocab=300)
    assert list(tmp_path.iterdir()) == []
    assert tokenizer_training.train(["ab ab"], tmp_path / "a", vocab=300).vocab_size < 300
    with pytest.raises(Error, match="already exists and is not empty"):
        tokenizer_training.train(["ab ab"], tmp_path / "a", vocab=300)


def test_a_tokenizer_has_one_hash_in_all_its_forms(tmp_path: Path, stories: Tokenizer) -> None:
    (tmp_path / "words.json").write_bytes((BUNDLED / "tokenizer.json").read_bytes())
    assert tokenizer.load(tmp_path / "words.json").hash == stories.hash
    entries = llama2c_entries([(" ", -1.0), ("a", -2.0)])
    other = tokenizer.load(write_llama2c_tokenizer(tmp_path / "tok.bin", entries))
    assert other.hash != stories.hash
    assert re.fullmatch("[0-9A-F]{64}", other.hash)


# -- the commands ---------------------------------------------------------------------------------


def test_prepare_command(tmp_path: Path, capsys: Capture, stories: Tokenizer) -> None:
    source, target = tmp_path / "a.txt", tmp_path / "a.bin"
    source.write_text("one\n<|end|>\ntwo\n", encoding="utf-8")
    command = ["prepare", str(source), "--model", "stories260K", "-o", str(target)]
    command += ["--document-separator", "<|end|>"]
    assert cli.main(command) == 0
    out, err = capsys.readouterr()
    ids = stories.encode_batch(["one", "two"])
    assert prepared(target) == ids[0] + ids[1]
    count = len(ids[0] + ids[1])
    assert out.startswith(
        f"{target}: 2 documents, {count} tokens, uint16, vocabulary 512, separator 1 '<s>', "
    )
    assert err == ""
    assert cli.main(command) == 1
    assert "a.bin: already exists (--force replaces it)" in capsys.readouterr().err
    assert cli.main([*command, "--force", "--json", "--validation", "0.5"]) == 0
    train, held = map(json.loads, capsys.readouterr().out.splitlines())
    assert (train["documents"], held["documents"], train["vocab"]) == (1, 1, 512)


def test_prepare_reads_stdin(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, stories: Tokenizer
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"body": "hello"}\n')))
    options = ["--format", "jsonl", "--field", "body", "--tokenizer", str(BUNDLED)]
    assert cli.main(["prepare", "-", "-o", str(tmp_path / "a.bin"), *options]) == 0
    assert "1 document, " in capsys.readouterr().out
    assert prepared(tmp_path / "a.bin") == stories.encode("hello")


def test_prepare_with_llama2c_files(tmp_path: Path, capsys: Capture) -> None:
    write_llama2c_model(tmp_path / "model.bin", tied=True, vocab=264)
    learnt = [(" ", -1.0), ("a", -2.0), ("b", -3.0), (" a", -0.5), ("ab", -0.7)]
    write_llama2c_tokenizer(tmp_path / "tok264.bin", llama2c_entries(learnt))
    (tmp_path / "a.txt").write_text("ab b", encoding="utf-8")
    command = ["prepare", str(tmp_path / "a.txt"), "-o", str(tmp_path / "a.bin"), "--model"]
    assert cli.main([*command, str(tmp_path / "model.bin")]) == 0
    assert "vocabulary 264" in capsys.readouterr().out
    words = tokenizer.load(tmp_path / "tok264.bin")
    assert prepared(tmp_path / "a.bin") == words.encode("ab b")


def test_a_separator_of_the_models_alone(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orion_ane.checkpoint.read_config", lambda _: {"vocab_size": 520})
    (tmp_path / "a.txt").write_text("a")
    command = ["prepare", str(tmp_path / "a.txt"), "-o", str(tmp_path / "a.bin")]
    assert cli.main([*command, "--model", "stories260K", "--separator", "519"]) == 0
    assert "vocabulary 520, separator 519, " in capsys.readouterr().out
    assert prepared(tmp_path / "a.bin")[0] == 519


def test_a_token_file_can_be_inspected(tmp_path: Path, capsys: Capture, stories: Tokenizer) -> None:
    prepare(whole(STORIES), tmp_path / "a.bin", stories)
    assert cli.main(["inspect", str(tmp_path / "a.bin"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["kind"], report["format"], report["vocab"]) == ("token file", "orion", 512)
    assert report["tokens"] == len(prepared(tmp_path / "a.bin"))


def test_tokenizer_commands(tmp_path: Path, capsys: Capture) -> None:
    target = str(tmp_path / "words")
    command = ["tokenizer", "train", str(PLAY), "--vocab", "300", "-o", target]
    assert cli.main(command) == 0
    assert capsys.readouterr().out == f"{target}: 300 tokens, tokenizers BPE\n"
    assert cli.main(command) == 1
    assert "--force" in capsys.readouterr().err
    assert cli.main([*command, "--force"]) == 0
    capsys.readouterr()
    for whose in (["--tokenizer", target], []):
        assert cli.main(["tokenizer", "encode", *whose, "hello  there"]) == 0
        ids = capsys.readouterr().out.split()
        assert cli.main(["tokenizer", "decode", *whose, *ids]) == 0
        assert capsys.readouterr().out == "hello  there\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("prepare x.txt -o a.bin", 2, "one of the arguments --model --tokenizer is required"),
        ("prepare x.txt -o a.bin --model m --tokenizer t", 2, "not allowed with argument --model"),
        ("prepare x.txt -o a.bin --model m --separator x", 2, "--separator: expected bos, eos, no"),
        ("prepare x.txt -o a.bin --model m --validation 1", 2, "--validation: expected a number"),
        ("prepare nowhere.txt -o a.bin --model stories260K", 1, "nowhere.txt: no such file"),
        ("prepare . -o a.bin --model stories260K --format txt", 1, "Is a directory"),
        ("prepare x.txt -o a.bin --model nowhere", 1, "nowhere: no such file or directory"),
        ("tokenizer", 2, "the following arguments are required: ACTION"),
        ("tokenizer train x.txt -o a", 2, "the following arguments are required: --vocab"),
        ("tokenizer train nowhere.txt -o a --vocab 300", 1, "nowhere.txt: no such file"),
        ("tokenizer decode 512", 1, "token id 512 is not in the tokenizer's vocabulary of 512"),
    ],
)
def test_mistakes_are_one_line(
    arguments: str,
    code: int,
    message: str,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = cli.main(arguments.split())
    except SystemExit as exit_:
        status = exit_.code  # type: ignore[assignment]
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (code, "", 1)
    assert message in err
    assert list(tmp_path.iterdir()) == []
