import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import orion_ane
import pytest
from orion_ane import cli, mil, weights
from samples import LLAMA, Arrays, llama_shapes, random_weights, write_model

Shared = Callable[[str], Path]
Capture = pytest.CaptureFixture[str]

BUNDLED = Path(orion_ane.__path__[0]) / "models" / "stories260K"


@dataclass
class Storyteller:
    """Stands for a model: tells a fixed story, and notes how it was asked."""

    pieces: tuple[tuple[int, str], ...] = ((403, ", the"), (261, "re"))
    interrupted: bool = False
    asked: dict[str, Any] = field(default_factory=dict)
    closed: bool = False
    device: str = "cpu"
    dtype: str = "fp32"
    compile_seconds: float = 0.0
    prompt_device: str = "cpu"
    decode_device: str = "cpu"
    head_device: str = "cpu"
    why_not_engine: str = "it was not asked for"
    fell_back: bool = False
    notes: tuple[str, ...] = ()
    last_stats: Any = None

    def load(self, name: str, **options: Any) -> "Storyteller":
        self.asked |= {"name": name} | options
        return self

    def stream(self, prompt: str, **options: Any) -> Iterator[Any]:
        self.asked |= {"prompt": prompt} | options
        try:
            for index, text in self.pieces:
                yield SimpleNamespace(id=index, text=text)
            if self.interrupted:
                raise KeyboardInterrupt
        finally:
            self.closed = True
            self.last_stats = SimpleNamespace(
                prompt_tokens=3,
                prompt_seconds=0.5,
                decode_tokens=len(self.pieces),
                decode_seconds=0.25,
                load_seconds=0.1,
                first_token_seconds=0.75,
            )


@pytest.fixture
def storyteller(monkeypatch: pytest.MonkeyPatch) -> Storyteller:
    model = Storyteller()
    monkeypatch.setattr(orion_ane, "load", model.load)
    return model


def orion(*arguments: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "orion_ane", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


# -- generate -------------------------------------------------------------------------------------


def test_generate_prints_prompt_and_completion(storyteller: Storyteller, capsys: Capture) -> None:
    assert cli.main(["generate", "--prompt", "Once"]) == 0
    out, err = capsys.readouterr()
    assert out == "Once, there\n"
    assert err.startswith(
        "cpu fp32 | not on the engine: it was not asked for | compile 0.00 s | "
        "first token 0.75 s | prompt 3 tokens, 6.0 tokens/s | decode 2 tokens, 8.0 tokens/s | "
        "peak memory "
    )
    assert err.count("\n") == 1
    assert storyteller.closed


def test_statistics_tell_each_part_of_an_engine(storyteller: Storyteller, capsys: Capture) -> None:
    storyteller.device = storyteller.prompt_device = "ane"
    storyteller.why_not_engine = ""
    storyteller.notes = ("prompts for 64 columns are read otherwise",)
    assert cli.main(["generate", "--prompt", "Once"]) == 0
    note, statistics = capsys.readouterr().err.splitlines()
    assert note == "orion: note: prompts for 64 columns are read otherwise"
    assert "| prompt 3 tokens on ane, 6.0 tokens/s | decode 2 tokens on cpu, 8.0 " in statistics
    assert " | head on cpu | peak memory" in statistics


def test_generate_passes_its_options_on(storyteller: Storyteller) -> None:
    options = (
        "--temperature 0.5 --top-k 7 --top-p 0.9 --min-p 0.1 --repetition-penalty 1.2 --seed 9"
    )
    rest = "--stop . --stop END --device cpu --dtype fp16 --threads 2 --max-tokens 5 --model here"
    assert cli.main(["generate", "--prompt", "x", *options.split(), *rest.split()]) == 0
    assert storyteller.asked == {
        "name": "here",
        "device": "cpu",
        "decode": "engine",
        "head": "host",
        "dtype": "fp16",
        "threads": 2,
        "prompt": "x",
        "max_tokens": 5,
        "temperature": 0.5,
        "top_k": 7,
        "top_p": 0.9,
        "min_p": 0.1,
        "repetition_penalty": 1.2,
        "seed": 9,
        "stop": [".", "END"],
    }


def test_generate_is_greedy_with_the_bundled_model_unless_told(storyteller: Storyteller) -> None:
    cli.main(["generate", "--prompt", "x"])
    assert storyteller.asked["temperature"] == 0
    assert storyteller.asked["name"] == "stories260K"
    assert set(storyteller.asked) & {"dtype", "threads"} == set()


def test_generate_json(storyteller: Storyteller, capsys: Capture) -> None:
    assert cli.main(["generate", "--prompt", "Once", "--json", "--seed", "4"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report.pop("peak_memory_bytes") > 1_000_000
    assert report == {
        "prompt": "Once",
        "text": ", there",
        "ids": [403, 261],
        "model": "stories260K",
        "device": storyteller.device,
        "prompt_device": "cpu",
        "decode_device": "cpu",
        "head_device": "cpu",
        "dtype": "fp32",
        "seed": 4,
        "prompt_tokens": 3,
        "prompt_seconds": 0.5,
        "decode_tokens": 2,
        "decode_seconds": 0.25,
        "load_seconds": 0.1,
        "compile_seconds": 0.0,
        "first_token_seconds": 0.75,
        "why_not_engine": "it was not asked for",
        "notes": [],
    }
    assert err.count("\n") == 1


def test_a_sampled_text_can_be_repeated(storyteller: Storyteller, capsys: Capture) -> None:
    cli.main(["generate", "--prompt", "x", "--temperature", "1"])
    assert f"seed {storyteller.asked['seed']} |" in capsys.readouterr().err


def test_ctrl_c_keeps_what_exists(storyteller: Storyteller, capsys: Capture) -> None:
    storyteller.interrupted = True
    assert cli.main(["generate", "--prompt", "Once"]) == 130
    out, err = capsys.readouterr()
    assert out == "Once, there\n"
    assert "decode 2 tokens" in err
    assert storyteller.closed


@pytest.mark.parametrize("option", ["--prompt", "--stop"])
def test_text_that_is_not_utf8(storyteller: Storyteller, capsys: Capture, option: str) -> None:
    assert cli.main(["generate", "--prompt", "x", option, "a\udcff"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"orion: error: {option}: character 1 is U+DCFF")
    assert storyteller.asked == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("bake", "invalid choice: 'bake'"),
        ("generate", "the following arguments are required: --prompt"),
        (
            "generate --prompt x --max-tokens 0",
            "--max-tokens: expected an integer from 1 on, got '0'",
        ),
        ("generate --prompt x --max-tokens 1.5", "--max-tokens: expected an integer"),
        (
            "generate --prompt x --temperature nan",
            "--temperature: expected a number from 0 on, got 'n",
        ),
        ("generate --prompt x --temperature inf", "--temperature: expected a number"),
        ("generate --prompt x --temperature=-1", "--temperature: expected a number"),
        ("generate --prompt x --top-k=-1", "--top-k: expected an integer from 0 on"),
        ("generate --prompt x --top-p 0", "--top-p: expected a number above 0 to 1, got '0'"),
        ("generate --prompt x --top-p 1.1", "--top-p: expected a number above 0 to 1"),
        ("generate --prompt x --min-p 2", "--min-p: expected a number from 0 to 1"),
        (
            "generate --prompt x --repetition-penalty 0",
            "--repetition-penalty: expected a number ab",
        ),
        ("generate --prompt x --seed 18446744073709551616", "--seed: expected an integer"),
        ("generate --prompt x --threads 0", "--threads: expected an integer from 1 on"),
        ("generate --prompt x --policy maybe", "--policy: invalid choice: 'maybe'"),
        ("generate --prompt x --head both", "--head: invalid choice: 'both'"),
        ("generate --prompt x --top 3", "unrecognized arguments: --top 3"),
        ("convert a b --dtype int2", "--dtype: invalid choice: 'int2'"),
        ("inspect", "the following arguments are required: path"),
    ],
)
def test_usage_errors_are_one_line(arguments: str, message: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments.split())
    out, err = capsys.readouterr()
    assert (exit_.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("orion: error: ")
    assert message in err


# -- in a process of its own ----------------------------------------------------------------------


def test_generate_streams_the_bundled_model(shared: Shared) -> None:
    greedy = json.loads(shared("stories260K/greedy.json").read_text())
    with orion("generate", "--prompt", "", "--max-tokens", "256", "--json") as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    report = json.loads(out)
    assert report["ids"] == greedy["ids"][:256]
    assert greedy["text"].startswith(report["text"])
    assert report["decode_tokens"] > 0


def test_sigint_ends_generation_cleanly() -> None:
    options = ("--temperature", "1", "--max-tokens", "100000", "--seed", "1")
    with orion("generate", "--prompt", "Once upon a time", *options) as process:
        assert process.stdout
        assert process.stdout.read(20)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode in (130, 0)  # 0 if the text ended first
    assert out.endswith("\n")
    assert err.count("\n") == 1
    assert "tokens/s" in err


def test_a_closed_pipe_is_quiet() -> None:
    with orion("inspect", str(BUNDLED)) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


# -- inspect --------------------------------------------------------------------------------------


def inspect(path: Path, capsys: Capture) -> Any:
    assert cli.main(["inspect", str(path), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_inspect_the_bundled_model(capsys: Capture) -> None:
    report = inspect(BUNDLED, capsys)
    assert report["kind"] == "model"
    assert report["model_type"] == "llama"
    assert report["dtype"] == "fp32"
    assert report["parameters"] == 260_032
    assert report["config"]["hidden_size"] == 64
    assert len(report["tensors"]) == 47
    norm = {"name": "model.norm.weight", "dtype": "fp32", "shape": [64]}
    assert norm in report["tensors"]


def test_inspect_for_reading(capsys: Capture) -> None:
    assert cli.main(["inspect", str(BUNDLED)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "parameters: 260032" in lines
    assert "  tie_word_embeddings: yes" in lines
    row = next(line.split() for line in lines if "layers.4.mlp.up_proj" in line)
    assert row == ["model.layers.4.mlp.up_proj.weight", "fp32", "(172,", "64)"]


def test_inspect_llama2c_files(shared: Shared, capsys: Capture) -> None:
    report = inspect(shared("stories260K/stories260K.bin"), capsys)
    assert (report["kind"], report["format"]) == ("model", "llama2.c checkpoint")
    report = inspect(shared("stories260K/tok512.bin"), capsys)
    assert (report["kind"], report["package"], report["tokens"]) == ("tokenizer", "llama2.c", 512)


def test_inspect_a_tokenizer(capsys: Capture) -> None:
    report = inspect(BUNDLED / "tokenizer.json", capsys)
    assert report["tokens"] == 512
    assert report["bos"] == "1 '<s>'"
    assert report["eos"] == ["1 '<s>'", "2 '</s>'"]


def test_inspect_safetensors(capsys: Capture) -> None:
    report = inspect(BUNDLED / "model.safetensors", capsys)
    assert (report["kind"], len(report["tensors"])) == ("safetensors", 47)


def test_inspect_a_program_and_its_weights(tmp_path: Path, capsys: Capture) -> None:
    graph = orion_ane.Graph("main")
    x = graph.input("x", (1, 16, 1, 8), "fp16")
    w = graph.weight("w", (4, 16, 1, 1), "fp16")
    graph.output("y", orion_ane.ops.relu(orion_ane.ops.relu(orion_ane.ops.conv(x, w))))
    mil.write_program(graph, {"w": np.ones((4, 16, 1, 1), np.float16)}, tmp_path)
    report = inspect(tmp_path, capsys)
    assert report["kind"] == "MIL program"
    assert report["function"] == "main"
    assert report["operations"] == {"relu": 2, "conv": 1}
    assert report["inputs"] == [{"name": "x", "dtype": "fp16", "shape": [1, 16, 1, 8]}]
    assert report["outputs"] == [{"name": "y", "dtype": "fp16", "shape": [1, 4, 1, 8]}]
    assert report["weights"] == [{"name": "w", "dtype": "fp16", "shape": [4, 16, 1, 1]}]
    (chunk,) = inspect(tmp_path / "weights" / "weight.bin", capsys)["chunks"]
    assert chunk == {
        **{"offset": 64, "dtype": "fp16", "bytes": 128},
        **{"shape": [4, 16, 1, 1], "name": "w"},
    }


def test_inspect_counts_packed_bytes(tmp_path: Path, capsys: Capture) -> None:
    values: Arrays = {"four": np.zeros(7, np.int8), "brain": np.zeros(3, np.uint16)}
    weights.write(tmp_path / "w.bin", values, {"four": "int4", "brain": "bf16"})
    chunks = inspect(tmp_path / "w.bin", capsys)["chunks"]
    assert [(c["name"], c["dtype"], c["bytes"]) for c in chunks] == [
        ("four", "int4", 4),
        ("brain", "bf16", 6),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nowhere", None, "nowhere: no such file or directory"),
        ("a.txt", b"", "a.txt: unknown kind of file"),
        ("a.bin", b"nonsense", "a.bin: no llama2.c file either; as a weight file: "),
        ("a.mil", b"program(1.3)\n{", "a.mil: "),
        ("a.mil", b"\xff", "a.mil: not UTF-8 text"),
        ("a.json", b"{", "a.json: not a tokenizer.json"),
        ("a.safetensors", b"", "a.safetensors: not a safetensors file"),
    ],
)
def test_inspect_what_is_damaged(
    tmp_path: Path, capsys: Capture, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert cli.main(["inspect", str(tmp_path / name)]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("orion: error: ")
    assert message in err


# -- the rest -------------------------------------------------------------------------------------


def test_convert(tmp_path: Path, capsys: Capture) -> None:
    words = str(BUNDLED / "tokenizer.json")
    config = LLAMA | {"vocab_size": 512}
    source = write_model(tmp_path / "a", config, random_weights(llama_shapes(config)))
    target = str(tmp_path / "b")
    command = ["convert", str(source), target, "--tokenizer", words, "--dtype", "fp16"]
    assert cli.main(command) == 0
    assert cli.main(command) == 1
    assert "b: already exists and is not empty (--force replaces it)" in capsys.readouterr().err
    assert cli.main([*command, "--force"]) == 0
    assert inspect(Path(target), capsys)["dtype"] == "fp16"


def test_version(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"orion {orion_ane.__version__}\n"


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.name)
def test_every_command_explains_itself(command: cli.Command, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main([command.name, "--help"])
    assert exit_.value.code == 0
    assert f"example:\n  {command.example}" in capsys.readouterr().out
