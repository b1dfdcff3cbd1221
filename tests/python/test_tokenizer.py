import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orion_ane
import pytest
import tokenizers
from orion_ane import llama2c_tokenizer, tokenizer, tokenizer_conversion
from orion_ane.tokenizer import Tokenizer
from samples import llama2c_entries, random_texts, write_llama2c_model, write_llama2c_tokenizer

Shared = Callable[[str], Path]

# "aa" and "bb" score the same; "aaa" is "a aa" and "aa a", which compete in "a aa a".
TIES = [(" ", -9.0), ("a", -9.0), ("b", -9.0), ("aa", -1.0), ("bb", -1.0), ("  ", -2.0)]
COMPETING = [(" ", -9.0), ("a", -9.0), ("aa", -1.0), ("aaa", -2.0), ("b", -9.0)]
PLAIN = [(" ", -9.0), ("a", -8.0), ("b", -7.0), ("ab", -1.0), (" ab", -2.0), ("é", -6.0)]


def run_c(entries: Sequence[tuple[str, float]], text: str) -> list[int]:
    """llama2.c's algorithm as it is described, one obvious step after the other."""
    ids = {piece: index for index, (piece, _) in enumerate(entries)}
    tokens: list[int] = []
    for char in " " + text if text else "":
        tokens += [ids[char]] if char in ids else [byte + 3 for byte in char.encode()]
    while True:
        best, best_score, best_place = -1, -1e10, -1
        for place in range(len(tokens) - 1):
            joined = entries[tokens[place]][0] + entries[tokens[place + 1]][0]
            if joined in ids and entries[ids[joined]][1] > best_score:
                best, best_score, best_place = ids[joined], entries[ids[joined]][1], place
        if best < 0:
            return tokens
        tokens[best_place : best_place + 2] = [best]


def entries_of(path: Path) -> list[tuple[str, float]]:
    vocabulary = llama2c_tokenizer.read(path)
    return list(zip(vocabulary.pieces, vocabulary.scores, strict=True))


@pytest.fixture(scope="session")
def tok512(shared: Shared) -> Path:
    return shared("stories260K/tok512.bin")


@pytest.fixture(scope="session")
def stories(tok512: Path) -> Tokenizer:
    return tokenizer.load(tok512)


@pytest.fixture(scope="session")
def bundled() -> Tokenizer:
    return tokenizer.load(Path(orion_ane.__path__[0]) / "models" / "stories260K")


@pytest.fixture
def tiny(tmp_path: Path) -> Tokenizer:
    return tokenizer.load(write_llama2c_tokenizer(tmp_path / "tok265.bin", llama2c_entries(PLAIN)))


# -- llama2.c -------------------------------------------------------------------------------------


def test_both_forms_of_the_stories_tokenizer_encode_as_run_c(
    tok512: Path, stories: Tokenizer, bundled: Tokenizer
) -> None:
    entries = entries_of(tok512)
    for text in random_texts(20_000, [piece for piece, _ in entries[259:]]):
        ids = run_c(entries, text)
        assert stories.encode(text, add_bos=False) == ids, text
        assert bundled.encode(text, add_bos=False) == ids, text


@pytest.mark.parametrize("learnt", [TIES, COMPETING, PLAIN], ids=["ties", "competing", "plain"])
def test_the_leftmost_of_equal_scores_is_joined_first(
    learnt: list[tuple[str, float]], tmp_path: Path
) -> None:
    entries = llama2c_entries(learnt)
    loaded = tokenizer.load(write_llama2c_tokenizer(tmp_path / "tokenizer.bin", entries))
    for text in random_texts(3_000, ["a", "aa", "b", "ab", "  ", "aaa", "bb"]):
        assert loaded.encode(text, add_bos=False) == run_c(entries, text), text


def test_llama2_encodes_alike_from_both_of_its_files(shared: Shared, tmp_path: Path) -> None:
    model = shared("tokenizers/llama2.model")
    exported = tokenizer_conversion.to_llama2c({"tokenizer.model": model.read_bytes()})
    (tmp_path / "tokenizer.bin").write_bytes(llama2c_tokenizer.to_bytes(exported))
    ours, theirs = tokenizer.load(tmp_path), tokenizer.load(model)
    assert "tokenizer.bin" in ours.files  # its runs of spaces tie, so a tokenizer.json cannot be it
    for text in random_texts(2_000, exported.pieces[259:]):
        if (
            "\u2581" not in text and "\0" not in text
        ):  # which SentencePiece takes for a space, an end
            assert ours.encode(text) == theirs.encode(text), text


@pytest.mark.parametrize("learnt", [TIES, COMPETING], ids=["ties", "competing"])
def test_what_bpe_ranks_cannot_say_stays_a_llama2c_file(
    learnt: list[tuple[str, float]], tmp_path: Path
) -> None:
    path = write_llama2c_tokenizer(tmp_path / "tokenizer.bin", llama2c_entries(learnt))
    assert tokenizer.load(path).files["tokenizer.bin"] == path.read_bytes()


def test_a_converted_tokenizer_converts_back_to_the_same_file(
    tok512: Path, stories: Tokenizer
) -> None:
    back = tokenizer_conversion.to_llama2c(stories.files)
    assert llama2c_tokenizer.to_bytes(back) == tok512.read_bytes()


def test_greedy_text_of_run_c(shared: Shared, stories: Tokenizer, bundled: Tokenizer) -> None:
    greedy = json.loads(shared("stories260K/greedy.json").read_text())
    for loaded in (stories, bundled):
        assert loaded.decode(greedy["ids"]) == greedy["text"]
        assert loaded.decode(greedy["prompt_ids"] + greedy["ids"]) == greedy["text"]


def test_bundled_tokenizer_ends_where_run_c_ends(bundled: Tokenizer) -> None:
    assert (bundled.bos_id, bundled.eos_ids, bundled.adds_bos) == (1, (1, 2), True)
    assert bundled.encode("Once upon a time") == [1, 403, 407, 261, 378]
    assert bundled.encode("") == [1]
    assert bundled.vocab_size == 512


# -- decoding -------------------------------------------------------------------------------------


def test_decode_inverts_encode(bundled: Tokenizer, tiny: Tokenizer) -> None:
    for text in random_texts(2_000):
        assert bundled.decode(bundled.encode(text)) == text
        assert tiny.decode(tiny.encode(text, add_bos=False)) == text


def test_stream_yields_whole_characters_and_the_text_of_decode(bundled: Tokenizer) -> None:
    for text in random_texts(500):
        ids = bundled.encode(text)
        stream = bundled.stream()
        parts = [stream.push(index) for index in ids] + [stream.finish()]
        assert "".join(parts) == text
        assert not any("\ufffd" in part for part in parts) or "\ufffd" in text


def test_stream_holds_back_incomplete_characters(bundled: Tokenizer) -> None:
    stream = bundled.stream()
    assert [stream.push(byte + 3) for byte in "é€".encode()] == ["", "é", "", "", "€"]
    assert stream.push(0xE2 + 3) == ""
    assert stream.finish() == "\ufffd"


def test_first_space_belongs_to_the_start_of_a_text_only(bundled: Tokenizer) -> None:
    upon = bundled.encode("upon", add_bos=False)
    assert bundled.token(upon[0]) == " upon"
    assert bundled.decode(upon) == "upon"
    assert bundled.decode([1, *upon, *upon]) == "upon upon"
    assert bundled.stream(after=[1]).push(upon[0]) == "upon"
    assert bundled.stream(after=bundled.encode("Once")).push(upon[0]) == " upon"


@pytest.mark.parametrize("index", [-1, 512, 2**31, 2**80])
def test_ids_outside_the_vocabulary_are_named(bundled: Tokenizer, index: int) -> None:
    with pytest.raises(orion_ane.Error, match=f"token id {index} is not in .* vocabulary of 512"):
        bundled.decode([1, index])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ab\udce9", r"text: character 2 is U\+DCE9"),
        ("\ud800", r"text: character 0 is U\+D800"),
        (b"ab", "text: expected str, got bytes"),
    ],
)
def test_what_is_not_unicode_is_refused(bundled: Tokenizer, text: Any, message: str) -> None:
    with pytest.raises(orion_ane.Error, match=message):
        bundled.encode(text)


# -- byte-level BPE -------------------------------------------------------------------------------


def write_byte_level(directory: Path) -> Path:
    """vocab.json and merges.txt with rules that begin like comments."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    merges = [
        ("#", "#"),
        ("##", "##"),
        ("#", "$"),
        ("Ġ", "t"),
        ("h", "e"),
        ("Ġt", "he"),
        ("Ã", "©"),
    ]
    words = [*alphabet, *("".join(pair) for pair in merges), "<|endoftext|>"]
    directory.mkdir(exist_ok=True)
    vocab = {word: index for index, word in enumerate(words)}
    (directory / "vocab.json").write_text(json.dumps(vocab))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (directory / "merges.txt").write_text("\n".join(lines) + "\n")
    return directory


def test_rules_that_begin_with_a_hash_are_rules(tmp_path: Path) -> None:
    loaded = tokenizer.load(write_byte_level(tmp_path))
    tokens = [loaded.token(index) for index in loaded.encode("the the### #$é<|endoftext|>")]
    assert tokens == ["t", "he", "Ġthe", "##", "#", "Ġ", "#$", "Ã©", "<|endoftext|>"]
    assert loaded.eos_ids == (loaded.vocab_size - 1,)
    assert loaded.bos_id == loaded.vocab_size - 1
    assert not loaded.adds_bos


def test_byte_level_text_comes_back(tmp_path: Path) -> None:
    loaded = tokenizer.load(write_byte_level(tmp_path))
    for text in random_texts(2_000):
        stream = loaded.stream()
        ids = loaded.encode(text)
        assert "".join(map(stream.push, ids)) + stream.finish() == text == loaded.decode(ids)


GPT2_GOLDEN = {
    "Hello, world!": [15496, 11, 995, 0],
    "The quick brown fox jumps over the lazy dog.": [
        *(464, 2068, 7586, 21831, 18045, 625, 262, 16931, 3290, 13)
    ],
    "GPT-2 is a transformer model.": [38, 11571, 12, 17, 318, 257, 47385, 2746, 13],
    " Hello": [18435],
    "Hello  ": [15496, 220, 220],
    "  ": [220, 220],
    "123456789": [10163, 2231, 3134, 4531],
    "café": [66, 1878, 2634],
    "naïve": [2616, 38776],
    "don't": [9099, 470],
    "I'm happy": [40, 1101, 3772],
    "it's a test": [270, 338, 257, 1332],
    "\n\n": [628],
    "Hello\nWorld": [15496, 198, 10603],
    "foo bar baz": [21943, 2318, 275, 1031],
    "A": [32],
    "The": [464],
    "a b c d e": [64, 275, 269, 288, 304],
    "$100.00": [3, 3064, 13, 405],
    "C++ programming is fun!": [34, 4880, 8300, 318, 1257, 0],
}


@pytest.fixture(scope="session")
def gpt2_files(shared: Shared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("gpt2")
    (directory / "vocab.json").symlink_to(shared("tokenizers/gpt2_vocab.json"))
    (directory / "merges.txt").symlink_to(shared("tokenizers/gpt2_merges.txt"))
    return directory


def test_gpt2_golden_encodings(gpt2_files: Path) -> None:
    loaded = tokenizer.load(gpt2_files)
    for text, ids in GPT2_GOLDEN.items():
        assert loaded.encode(text) == ids
        assert loaded.decode(ids) == text
    assert loaded.vocab_size == 50257
    assert loaded.eos_ids == (50256,)


def test_gpt2_encodes_as_transformers(gpt2_files: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.GPT2Tokenizer.from_pretrained(gpt2_files)
    ours = tokenizer.load(gpt2_files)
    for text in [*random_texts(2_000), "####", "a # $", "x" * 3000]:
        ids = ours.encode(text)
        assert ids == theirs.encode(text), text
        assert ours.decode(ids) == text


# -- settings beside the tokenizer ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "bos_id", "eos_ids", "adds_bos"),
    [
        ({}, 1, (), True),
        ({"tokenizer_config.json": {"add_bos_token": False}}, 1, (), False),
        ({"tokenizer_config.json": {"eos_token": "</s>", "bos_token": None}}, 1, (2,), True),
        ({"tokenizer_config.json": {"bos_token": {"content": "</s>"}}}, 2, (), True),
        ({"config.json": {"eos_token_id": 5, "bos_token_id": 7}}, 1, (5,), True),
        (
            {
                "generation_config.json": {"eos_token_id": [4, 5]},
                "config.json": {"eos_token_id": 3},
                "tokenizer_config.json": {"eos_token": "</s>"},
            },
            *(1, (4, 5), True),
        ),
    ],
)
def test_ends_of_a_text(
    tiny: Tokenizer,
    tmp_path: Path,
    files: dict[str, Any],
    bos_id: int,
    eos_ids: tuple[int, ...],
    adds_bos: bool,
) -> None:
    (tmp_path / "tokenizer.json").write_bytes(tiny.files["tokenizer.json"])
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    loaded = tokenizer.load(tmp_path)
    assert (loaded.bos_id, loaded.eos_ids, loaded.adds_bos) == (bos_id, eos_ids, adds_bos)
    assert loaded.encode("ab") == ([bos_id] if adds_bos else []) + [263]


def test_truncation_and_padding_of_a_file_are_not_applied(tiny: Tokenizer, tmp_path: Path) -> None:
    content = json.loads(tiny.files["tokenizer.json"])
    content["truncation"] = {
        **{"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert len(tokenizer.load(tmp_path).encode("a" * 50)) == 52


def test_a_tokenizer_without_bos_says_so(tmp_path: Path) -> None:
    directory = write_byte_level(tmp_path)
    vocab = json.loads((directory / "vocab.json").read_text())
    del vocab["<|endoftext|>"]
    (directory / "vocab.json").write_text(json.dumps(vocab))
    with pytest.raises(orion_ane.Error, match="has no BOS token"):
        tokenizer.load(directory).encode("a", add_bos=True)


# -- bad files ------------------------------------------------------------------------------------


def test_directory_without_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(orion_ane.Error, match=r"no tokenizer \(looked for tokenizer\.json"):
        tokenizer.load(tmp_path)


def test_checkpoint_without_tokenizer(tmp_path: Path) -> None:
    path, _ = write_llama2c_model(tmp_path / "m.bin", tied=True)
    with pytest.raises(orion_ane.Error, match=r"looked for tok264\.bin and tokenizer\.bin"):
        tokenizer.load(path)
    write_llama2c_tokenizer(tmp_path / "tokenizer.bin", llama2c_entries(PLAIN))
    assert tokenizer.load(path).vocab_size == 265


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", b"{", r"tokenizer\.json: not a tokenizer\.json"),
        ("tokenizer.json", b"\xff", r"tokenizer\.json: not a tokenizer\.json"),
        ("tokenizer.json", b"[" * 100_000, r"tokenizer\.json: not a tokenizer\.json"),
        ("vocab.json", b"{}", r"merges\.txt: missing"),
        ("tokenizer.model", b"", r"tokenizer\.model: not a SentencePiece model"),
        ("tokenizer.model", b"nonsense", r"tokenizer\.model: not a SentencePiece model"),
        ("tokenizer.bin", b"", "0 pieces, and 259 come before"),
        ("tokenizer.bin", b"\0" * 9, "ends inside the entry of id 0"),
        ("tokenizer.bin", b"\0" * 8 + b"\xff\xff\xff\x7f", "id 0 has 2147483647 bytes, 0 are left"),
        ("tokenizer.bin", b"\0" * 8 + b"\xff" * 4, "id 0 has -1 bytes"),
        ("tokenizer.bin", b"\0" * 8 + b"\1\0\0\0\xff", "the piece of id 0 is not UTF-8"),
        ("tokenizer.bin", b"\0" * 6 + b"\xc0\x7f" + b"\0" * 4, "the score of id 0 is NaN"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(orion_ane.Error, match=message):
        tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("learnt", "message"),
    [
        ([("a", -1.0)], "no piece is a single space"),
        ([(" ", 0.0), ("a", -1.0), ("a", -2.0)], "2 ids have the piece 'a'"),
    ],
)
def test_impossible_llama2c_vocabularies(
    tmp_path: Path, learnt: list[tuple[str, float]], message: str
) -> None:
    path = write_llama2c_tokenizer(tmp_path / "tokenizer.bin", llama2c_entries(learnt))
    with pytest.raises(orion_ane.Error, match=re.escape(message)):
        tokenizer.load(path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer_config.json": {"bos_token": "<begin>"}}, "bos_token '<begin>' is not in"),
        ({"generation_config.json": {"eos_token_id": "2"}}, "eos_token_id is '2', not token ids"),
        ({"config.json": []}, r"config\.json: expected a JSON object, found list"),
    ],
)
def test_impossible_settings(
    tiny: Tokenizer, tmp_path: Path, files: dict[str, Any], message: str
) -> None:
    (tmp_path / "tokenizer.json").write_bytes(tiny.files["tokenizer.json"])
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(orion_ane.Error, match=message):
        tokenizer.load(tmp_path)


def test_decoders_that_cannot_be_streamed_are_refused(tiny: Tokenizer, tmp_path: Path) -> None:
    content = json.loads(tiny.files["tokenizer.json"])
    content["decoder"] = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(orion_ane.Error, match=r'decoder .*"WordPiece".* is not supported'):
        tokenizer.load(tmp_path)


def test_other_models_words_are_not_split_as_gpt2s(tmp_path: Path) -> None:
    directory = write_byte_level(tmp_path)
    (directory / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(orion_ane.Error, match=r"'qwen2' model .* needs its tokenizer\.json"):
        tokenizer.load(directory)
