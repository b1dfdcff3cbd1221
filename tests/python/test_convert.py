import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orion_ane
import pytest
from orion_ane import checkpoint, convert, llama2c, tokenizer
from samples import (
    GPT2,
    LLAMA,
    gpt2_shapes,
    llama2c_entries,
    llama_shapes,
    random_texts,
    random_weights,
    write_llama2c_model,
    write_llama2c_tokenizer,
    write_model,
)

Shared = Callable[[str], Path]

BUNDLED = Path(orion_ane.__path__[0]) / "models" / "stories260K"
LEARNT = [(" ", -4.0), ("a", -2.0), ("b", -3.0), ("ab", 0.0), (" ab", -1.0)]
ROPE_TABLES = 2 * 16 * 2  # floats: cos and sin, 16 positions, 2 pairs


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def stories(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A llama2.c checkpoint with its tokenizer beside it."""
    write_llama2c_tokenizer(tmp_path / "tok264.bin", llama2c_entries(LEARNT))
    return write_llama2c_model(tmp_path / "stories.bin", tied=request.param)[0]


def without_rope(path: Path) -> bytes:
    """A checkpoint without the tables, which differ in the last bit between C libraries."""
    floats = np.fromfile(path, "<f4", offset=28)
    size = ROPE_TABLES if path.stat().st_size < 100_000 else 2 * 512 * 4
    head = 0 if checkpoint.read(path).config["tie_word_embeddings"] else 264 * 24
    end = floats.size - head
    return path.read_bytes()[:28] + np.delete(floats, slice(end - size, end)).tobytes()


def test_the_bundled_model_is_what_convert_makes(shared: Shared, tmp_path: Path) -> None:
    convert.convert(shared("stories260K/stories260K.bin"), tmp_path / "m")
    for made in (tmp_path / "m").iterdir():
        assert made.read_bytes() == (BUNDLED / made.name).read_bytes(), made.name
    made_names = {path.name for path in (tmp_path / "m").iterdir()}
    assert {path.name for path in BUNDLED.iterdir()} - made_names == {"LICENSE", "README.md"}


def test_the_bundled_model_goes_back_to_where_it_came_from(shared: Shared, tmp_path: Path) -> None:
    source = shared("stories260K/stories260K.bin")
    convert.convert(BUNDLED, tmp_path / "m.bin")
    assert without_rope(tmp_path / "m.bin") == without_rope(source)
    theirs = np.fromfile(source, "<f4", offset=28)[-4096:]
    assert np.fromfile(tmp_path / "m.bin", "<f4", offset=28)[-4096:] == pytest.approx(
        theirs, abs=1e-6
    )
    assert (tmp_path / "tok512.bin").read_bytes() == shared("stories260K/tok512.bin").read_bytes()


def test_transformers_tells_the_story_of_run_c(shared: Shared) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    greedy = json.loads(shared("stories260K/greedy.json").read_text())
    model = transformers.LlamaForCausalLM.from_pretrained(BUNDLED)
    prompt = torch.tensor([greedy["prompt_ids"]])
    ids = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=len(greedy["ids"]),
        do_sample=False,
        pad_token_id=0,
    )
    assert ids[0].tolist() == greedy["prompt_ids"] + greedy["ids"]
    words = transformers.AutoTokenizer.from_pretrained(BUNDLED)
    assert words.decode(ids[0], skip_special_tokens=True) == greedy["text"]


def test_there_and_back(stories: Path, tmp_path: Path) -> None:
    convert.convert(stories, tmp_path / "m")
    (tmp_path / "back").mkdir()
    convert.convert(tmp_path / "m", tmp_path / "back" / "back.bin")
    assert without_rope(tmp_path / "back" / "back.bin") == without_rope(stories)
    ours, theirs = tokenizer.load(tmp_path / "m"), tokenizer.load(stories)
    back = tokenizer.load(tmp_path / "back" / "back.bin")
    for text in random_texts(500, ["ab", " ab"]):
        assert ours.encode(text) == back.encode(text) == theirs.encode(text)
    assert (ours.bos_id, ours.eos_ids, ours.adds_bos) == (1, (1, 2), True)


def test_rotated_rows_are_half_a_head_apart(stories: Path, tmp_path: Path) -> None:
    convert.convert(stories, tmp_path / "m")
    before, after = checkpoint.read(stories), checkpoint.read(tmp_path / "m")
    assert "rope_interleaved" not in after.config
    for projection in ("q", "k"):
        name = f"model.layers.1.self_attn.{projection}_proj.weight"
        rows = [0, 2, 1, 3]  # of a head of size 4
        expected = before.weights[name].reshape(-1, 4, 24)[:, rows].reshape(-1, 24)
        assert np.array_equal(after.weights[name], expected)
    for name in set(before.weights):
        if ".q_proj." not in name and ".k_proj." not in name:
            assert np.array_equal(after.weights[name], before.weights[name]), name


@pytest.mark.parametrize(("heads", "rows"), [(1, 8), (3, 6), (2, 8)])
def test_interleaving_is_undone(heads: int, rows: int) -> None:
    weight = np.arange(rows * 3).reshape(rows, 3)
    assert np.array_equal(llama2c.interleave(llama2c.deinterleave(weight, heads), heads), weight)
    assert np.array_equal(llama2c.deinterleave(llama2c.interleave(weight, heads), heads), weight)


def test_llama2c_logits_are_those_of_transformers(stories: Path, tmp_path: Path) -> None:
    """run.c's rotation of neighbouring rows, written out, gives the converted model's logits."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    convert.convert(stories, tmp_path / "m")
    model = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "m")
    ids = [1, 260, 263, 5, 100]
    with torch.no_grad():
        theirs = model(torch.tensor([ids])).logits[0].numpy()
    assert run_c_logits(checkpoint.read(stories), ids) == pytest.approx(theirs, abs=1e-3)


def run_c_logits(model: checkpoint.Checkpoint, ids: list[int]) -> Any:
    weights, config = model.weights, model.config
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    count, head = len(ids), config["hidden_size"] // heads

    def norm(x: Any, name: str) -> Any:
        scale = np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)
        return x / scale * weights[f"{name}.weight"]

    def rotate(x: Any) -> Any:  # (T, heads, D): rows 2i and 2i+1 turn together
        angles = np.arange(count)[:, None] * 10000.0 ** (-np.arange(0, head, 2) / head)
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        even, odd = x[..., 0::2], x[..., 1::2]
        turned = np.stack([even * cos - odd * sin, even * sin + odd * cos], -1)
        return turned.reshape(x.shape)

    x = weights["model.embed_tokens.weight"][ids].astype(np.float64)
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}."
        linear = {
            part: weights[f"{name}{part}.weight"].T
            for part in (
                *(f"self_attn.{p}_proj" for p in "qkvo"),
                *(f"mlp.{p}_proj" for p in ("gate", "up", "down")),
            )
        }
        y = norm(x, f"{name}input_layernorm")
        q = rotate((y @ linear["self_attn.q_proj"]).reshape(count, heads, head))
        k = rotate((y @ linear["self_attn.k_proj"]).reshape(count, kv_heads, head))
        v = (y @ linear["self_attn.v_proj"]).reshape(count, kv_heads, head)
        k, v = (np.repeat(part, heads // kv_heads, axis=1) for part in (k, v))
        scores = np.einsum("thd,shd->hts", q, k) / np.sqrt(head)
        scores = np.where(np.tril(np.ones((count, count), bool)), scores, -np.inf)
        share = np.exp(scores - scores.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        x = x + np.einsum("hts,shd->thd", share, v).reshape(count, -1) @ linear["self_attn.o_proj"]
        y = norm(x, f"{name}post_attention_layernorm")
        gate = y @ linear["mlp.gate_proj"]
        x = x + (gate / (1 + np.exp(-gate)) * (y @ linear["mlp.up_proj"])) @ linear["mlp.down_proj"]
    head_name = "model.embed_tokens" if config["tie_word_embeddings"] else "lm_head"
    return norm(x, "model.norm") @ weights[f"{head_name}.weight"].T


def test_dtype_is_kept_or_changed(stories: Path, tmp_path: Path) -> None:
    convert.convert(stories, tmp_path / "half", dtype="fp16")
    convert.convert(tmp_path / "half", tmp_path / "same")
    convert.convert(tmp_path / "half", tmp_path / "full", dtype="fp32")
    half, full = checkpoint.read(tmp_path / "half"), checkpoint.read(tmp_path / "full")
    assert (half.dtype, full.dtype) == ("fp16", "fp32")
    for name in half.weights:
        assert np.array_equal(half.weights[name], full.weights[name])
    for path in (tmp_path / "half").iterdir():
        assert path.read_bytes() == (tmp_path / "same" / path.name).read_bytes()


# -- what llama2.c cannot hold --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rope_theta": 5e5}, "rope_theta is 500000.0, and run.c computes with 10000.0"),
        ({"rms_norm_eps": 1e-6}, "rms_norm_eps is 1e-06"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope_scaling is {'type'"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"head_dim": 6}, "head_dim is 6"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"model_type": "qwen2"}, "model_type is 'qwen2'"),
        ({"num_attention_heads": 8, "num_key_value_heads": 8}, "head size 3 is odd"),
    ],
)
def test_models_beyond_run_c(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    source = write_model(tmp_path / "m", LLAMA | change, random_weights(llama_shapes()))
    words = write_llama2c_tokenizer(tmp_path / "words.bin", llama2c_entries(LEARNT))
    with pytest.raises(orion_ane.Error, match=message):
        convert.convert(source, tmp_path / "out.bin", tokenizer_path=words)
    assert not (tmp_path / "out.bin").exists()
    assert not (tmp_path / "tok264.bin").exists()


def test_other_architectures(tmp_path: Path) -> None:
    source = write_model(tmp_path / "m", GPT2, random_weights(gpt2_shapes()))
    words = write_llama2c_tokenizer(tmp_path / "words.bin", llama2c_entries(LEARNT))
    with pytest.raises(orion_ane.Error, match="cannot hold this model: model_type is 'gpt2'"):
        convert.convert(source, tmp_path / "out.bin", tokenizer_path=words)


def test_a_tokenizer_of_another_size(stories: Path, tmp_path: Path) -> None:
    words = write_llama2c_tokenizer(tmp_path / "w.bin", llama2c_entries(LEARNT[:3]))
    with pytest.raises(orion_ane.Error, match=r"each of the model's 264 ids, .* has 262"):
        convert.convert(stories, tmp_path / "out.bin", tokenizer_path=words)


def test_fp16_checkpoints(stories: Path, tmp_path: Path) -> None:
    with pytest.raises(orion_ane.Error, match="checkpoints are fp32, and fp16 was asked for"):
        convert.convert(stories, tmp_path / "out.bin", dtype="fp16")


# -- what exists is kept --------------------------------------------------------------------------


def test_nothing_is_overwritten_unasked(stories: Path, tmp_path: Path) -> None:
    before = stories.read_bytes()
    convert.convert(stories, tmp_path / "m")
    with pytest.raises(orion_ane.Error, match=r"stories\.bin: already exists"):
        convert.convert(tmp_path / "m", stories)
    assert stories.read_bytes() == before
    convert.convert(tmp_path / "m", stories, replace=True)
    assert stories.read_bytes() != before  # the tables are computed now, and were random
    assert stories.stat().st_size == len(before)


def test_another_models_tokenizer_is_not_overwritten(stories: Path, tmp_path: Path) -> None:
    convert.convert(stories, tmp_path / "m")
    (tmp_path / "tok264.bin").write_bytes(b"something else")
    with pytest.raises(orion_ane.Error, match=r"tok264\.bin: already exists"):
        convert.convert(tmp_path / "m", tmp_path / "out.bin")
    assert (tmp_path / "tok264.bin").read_bytes() == b"something else"
    assert not (tmp_path / "out.bin").exists()


def test_a_source_without_tokenizer_says_so(tmp_path: Path) -> None:
    source = write_model(tmp_path / "m", LLAMA, random_weights(llama_shapes()))
    with pytest.raises(orion_ane.Error, match="m: no tokenizer"):
        convert.convert(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
