"""Packages from Python: `compile_model`, `load`, and the commands."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import orion_ane as orion
import pytest
import tiny_models
from orion_ane import _core, cli

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "stories260K_greedy.json").read_text(encoding="utf-8")
)
# The engines under names that no other test uses: what is compiled and loaded counts by name.
ENGINES = {
    row["name"]: "sim:"
    + _core.add_profile(
        row | {"name": f"package-{row['name']}", "compile_budget": 999, "loaded_programs": 999}
    )
    for row in _core.profiles()
}
PROMPT = "Once upon a time"


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """stories260K for every engine, made from a copy that is gone."""
    directory = tmp_path_factory.mktemp("packages")
    copy = directory / "copy"
    bundled = Path(orion.__path__[0]) / "models" / "stories260K"
    shutil.copytree(bundled, copy)
    steps: list[tuple[int, int]] = []
    package = orion.compile_model(
        copy, directory / "stories", buckets=[64, 32], progress=lambda *step: steps.append(step)
    )
    shutil.rmtree(copy)
    assert steps == [(i, 30) for i in range(1, 31)]
    assert (package.profile, package.buckets, package.programs) == ("strict", [32, 64], 30)
    assert package.version == orion.__version__
    return directory / "stories"


@pytest.mark.parametrize("device", ["cpu", *ENGINES.values()])
def test_greedy_tokens_are_those_of_the_checkpoint(stories: Path, device: str) -> None:
    model = orion.load(stories, device=device)
    assert (model.device, model.dtype, model.num_parameters) == (device, "fp16", 260_032)
    count = 12 if device == "cpu" else 48
    assert model.generate_ids([1], max_tokens=count) == GOLDEN["ids"][:count]
    text = model.generate(PROMPT, max_tokens=12)
    assert text == orion.load("stories260K").generate(PROMPT, max_tokens=12)


def test_engine_finds_a_packages_programs_compiled_by_the_checkpoint(stories: Path) -> None:
    engine = ENGINES["strict"]
    orion.load("stories260K", device=engine).generate_ids([1, 2], max_tokens=2)
    before = _core.engine_usage(engine)["compiles"]
    orion.load(stories, device=engine).generate_ids([1, 2], max_tokens=2)
    assert _core.engine_usage(engine)["compiles"] == before


def test_what_a_package_cannot_do_is_said(stories: Path, tmp_path: Path) -> None:
    for options, message in (
        ({"dtype": "fp32"}, "dtype 'fp32': a package's programs compute in fp16"),
        ({"decode": "cpu", "device": ENGINES["strict"]}, "decode 'cpu' and head 'host' need the"),
        ({"head": "engine", "device": ENGINES["strict"]}, "decode 'engine' and head 'engine' need"),
    ):
        with pytest.raises(orion.Error, match=message):
            orion.load(stories, **options)  # type: ignore[arg-type]
    with pytest.raises(orion.Error, match="is a package already; compile the model it came from"):
        orion.compile_model(stories, tmp_path / "again")


def test_a_changed_tokenizer_is_refused(stories: Path, tmp_path: Path) -> None:
    package = tmp_path / "p"
    shutil.copytree(stories, package)
    words = bytearray((package / "tokenizer.json").read_bytes())
    words[len(words) // 2] ^= 1
    (package / "tokenizer.json").write_bytes(words)
    with pytest.raises(orion.Error, match=r"tokenizer\.json: is not what was written"):
        orion.load(package)
    with pytest.raises(orion.Error, match=r"tokenizer\.json: is not what was written"):
        _core.Package(package).verify()


@pytest.mark.parametrize("case", ["gpt2-scaled-by-layer", "llama-tied", "qwen2", "qwen3"])
def test_every_architecture(case: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    tiny_models.make(case, tmp_path / "model")
    prompt = [3, 1, 4, 1, 5]
    device = ENGINES["macos26"]
    expected = orion.load(tmp_path / "model", device=device).generate_ids(prompt, max_tokens=8)
    orion.compile_model(tmp_path / "model", tmp_path / "p", profile="macos26", buckets=[16])
    shutil.rmtree(tmp_path / "model")
    for where in (device, "cpu"):
        model = orion.load(tmp_path / "p", device=where)
        assert model.generate_ids(prompt, max_tokens=8) == expected


KILLED = """
import os, signal, sys
import orion_ane as orion

def progress(done, programs):
    if done == 5:
        os.kill(os.getpid(), signal.SIGKILL)

orion.compile_model("stories260K", sys.argv[1], buckets=[32], replace=True, progress=progress)
"""


def test_a_kill_leaves_what_was_there(stories: Path, tmp_path: Path) -> None:
    package = tmp_path / "p"
    command = [sys.executable, "-c", KILLED, str(package)]
    other = tmp_path / ".p2.0123abcd.partial"  # of another package
    other.mkdir()
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not package.exists()
    (left,) = tmp_path.glob(".p.*.partial")
    shutil.copytree(stories, package)
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not left.exists()  # the next writer of this package removes it
    assert _core.Package(package).programs == 30
    orion.compile_model("stories260K", package, buckets=[32], replace=True)
    assert _core.Package(package).programs == 20
    assert sorted(tmp_path.iterdir()) == [other, package]


def test_an_error_of_the_callers_stops_the_writing(tmp_path: Path) -> None:
    def progress(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        orion.compile_model("stories260K", tmp_path / "p", buckets=[32], progress=progress)
    assert list(tmp_path.iterdir()) == []


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = str(tmp_path / "p")
    compile_ = ["compile", "stories260K", "-o", package, "--profile", "macos26", "--buckets", "32"]
    assert cli.main(compile_) == 0
    assert f"{package}: 20 programs for macos26, " in capsys.readouterr().out
    assert cli.main(compile_) == 1
    assert "holds a package already (--force replaces it)" in capsys.readouterr().err
    assert cli.main([*compile_, "--force"]) == 0
    capsys.readouterr()
    assert cli.main(["inspect", package, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["kind"], report["profile"], report["programs"]) == ("package", "macos26", 20)
    assert report["parameters"] == 260_032
    assert "tokenizer.json" in [file["path"] for file in report["files"]]
    assert cli.main(["inspect", f"{package}/weights/layer_0.bin"]) == 0
    assert "model.layers.0.mlp.up_proj.weight" in capsys.readouterr().out
    assert cli.main(["inspect", f"{package}/programs/attention_0_32.mil"]) == 0
    assert "conv" in capsys.readouterr().out
    generate = ["generate", "--model", package, "--prompt", PROMPT, "--max-tokens", "8"]
    assert cli.main([*generate, "--device", ENGINES["macos26"]]) == 0
    assert capsys.readouterr().out.startswith(PROMPT + ", there was a little girl")
    assert cli.main([*generate, "--device", ENGINES["strict"]]) == 1
    assert "made for profile 'macos26', on sim:package-strict: " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["compile", "stories260K", "-o", package, "--buckets", "many"])
    assert "expected lengths separated by commas, got 'many'" in capsys.readouterr().err
