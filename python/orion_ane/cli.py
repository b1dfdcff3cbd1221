"""The command `orion`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from orion_ane import convert, inspection
from orion_ane._core import Error, __version__
from orion_ane.arguments import UsageError
from orion_ane.bench_command import add_bench_arguments, bench
from orion_ane.compile_command import add_compile_arguments, compile_package
from orion_ane.doctor_command import add_doctor_arguments, doctor
from orion_ane.eval_command import add_eval_arguments, evaluate_model
from orion_ane.generation_command import add_generate_arguments, generate
from orion_ane.lora_command import add_lora_arguments, use_lora
from orion_ane.placement import DTYPES
from orion_ane.prepare_command import add_prepare_arguments, prepare
from orion_ane.probe_command import add_probe_arguments, probe
from orion_ane.tokenizer_command import add_tokenizer_arguments, use_tokenizer
from orion_ane.train_command import add_train_arguments, train
from orion_ane.training import Interrupted

Options = argparse.Namespace

USAGE_ERROR = 2
INTERRUPTED = 130  # 128 + SIGINT, what shells report
PIPE_CLOSED = 141  # 128 + SIGPIPE


@dataclass(frozen=True)
class Command:
    """One subcommand."""

    name: str
    help: str
    example: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Options], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code; errors are one line on stderr."""
    try:
        options = _parser().parse_args(arguments)
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read us has gone. Python flushes stdout once more at exit: give it somewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except Interrupted as end:
        print(f"orion: {end}", file=sys.stderr)
        return end.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except (Error, OSError) as error:
        print(f"orion: error: {' '.join(str(error).split())}", file=sys.stderr)
        return USAGE_ERROR if isinstance(error, UsageError) else 1
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"orion: error: {message} (see '{self.prog} --help')\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="orion", description="Run language models, and look into their files.")
    parser.add_argument("--version", action="version", version=f"orion {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        sub = commands.add_parser(
            command.name,
            help=command.help,
            description=f"{command.help[0].upper()}{command.help[1:]}.",
            epilog=f"example:\n  {command.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


def _add_inspect_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", help="a model, a package, a tokenizer, a token file, a MIL text or a weight file"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _inspect(options: Options) -> None:
    report = inspection.inspect(options.path)
    print(json.dumps(report, ensure_ascii=False) if options.json else inspection.render(report))


def _add_convert_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="a Hugging Face directory or a llama2.c .bin")
    parser.add_argument("target", help="what to write: a .bin, or else a directory")
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        help="default: as in the source; bf16, int8 and int4 are written packed",
    )
    parser.add_argument(
        "--pack",
        action="store_true",
        help="write matrices as the CPU reads them: loading maps the file and copies nothing; for "
        "running here only, keep the source",
    )
    parser.add_argument("--tokenizer", metavar="FILE", help="default: the one beside the source")
    parser.add_argument("--force", action="store_true", help="replace a target that exists")


def _convert(options: Options) -> None:
    convert.convert(
        options.source,
        options.target,
        dtype=options.dtype,
        pack=options.pack,
        tokenizer_path=options.tokenizer,
        replace=options.force,
    )


COMMANDS = (
    Command(
        "generate",
        "continue a text",
        'orion generate --prompt "Once upon a time" --max-tokens 64',
        add_generate_arguments,
        generate,
    ),
    Command(
        "compile",
        "write a model as a package of programs that runs without the checkpoint",
        "orion compile stories260K -o stories.orion --profile macos26",
        add_compile_arguments,
        compile_package,
    ),
    Command(
        "inspect",
        "show what is in a model, package, tokenizer, token file, MIL text or weight file",
        "orion inspect stories260K",
        _add_inspect_arguments,
        _inspect,
    ),
    Command(
        "convert",
        "write a model in another form: Hugging Face directory, llama2.c .bin, or packed to run",
        "orion convert stories260K stories-int8 --dtype int8",
        _add_convert_arguments,
        _convert,
    ),
    Command(
        "prepare",
        "turn text into a file of token ids to train on",
        "orion prepare stories.txt --document-separator '<|endoftext|>' --model stories260K "
        "-o stories.bin",
        add_prepare_arguments,
        prepare,
    ),
    Command(
        "tokenizer",
        "train a tokenizer on text, or see what one does",
        "orion tokenizer train stories.txt --vocab 4096 -o words",
        add_tokenizer_arguments,
        use_tokenizer,
    ),
    Command(
        "train",
        "train a model, from the start or further",
        "orion train --config stories-1m --data data.bin --out run --steps 1000 --lr 1e-3",
        add_train_arguments,
        train,
    ),
    Command(
        "eval",
        "show the loss and perplexity of a model on data",
        "orion eval --model run/step-00001000 --data data-validation.bin",
        add_eval_arguments,
        evaluate_model,
    ),
    Command(
        "lora",
        "train an adapter, show one, or work one into its model",
        "orion lora train --model stories260K --data stories.bin --out adapter",
        add_lora_arguments,
        use_lora,
    ),
    Command(
        "bench",
        "measure how fast this machine is, and compare with an earlier run",
        "orion bench inference --model stories260K --json before.json",
        add_bench_arguments,
        bench,
    ),
    Command(
        "doctor",
        "show what there is to run on, and what works",
        "orion doctor --device sim:macos26",
        add_doctor_arguments,
        doctor,
    ),
    Command(
        "probe",
        "find out what the engine here does where reports differ",
        "orion probe --device sim:macos26 -o profile.json",
        add_probe_arguments,
        probe,
    ),
)
