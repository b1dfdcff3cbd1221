"""Language models: loading, logits, and text from a prompt."""

from __future__ import annotations

import functools
import itertools
import json
import logging
import os
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast, overload

import numpy as np
from numpy.typing import NDArray

from orion_ane import _core, adapter, checkpoint, packed, tokenizer
from orion_ane._core import (
    EngineModel,
    Error,
    GeneratedToken,
    Generation,
    Graph,
    LanguageModel,
    Package,
    TextModel,
)
from orion_ane.adapter import Adapter
from orion_ane.checkpoint import Checkpoint
from orion_ane.completion import Completion, CompletionText, Piece, Stats
from orion_ane.packed import PackedModel
from orion_ane.placement import DTYPES, Placement, place, place_model
from orion_ane.tokenizer import Tokenizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Completion", "Model", "Options", "Piece", "Stats", "load"]

_logger = logging.getLogger("orion_ane")

TokenIds = Sequence[int] | NDArray[np.integer[Any]]
Prompt = str | TokenIds
"""A text, or the token ids to begin with exactly as they are."""
Prompts = list[str] | list[list[int]]
"""Several, to be continued together."""
Stop = str | int
AdapterUse = str | tuple[str, float] | None
"""The name of an adapter, the name and a scale, or None for the model as it is."""


class Options(TypedDict, total=False):
    """How tokens are chosen and when they end. Filters apply in this order.

    Each works on what the one before left over; then one token is drawn from the rest.
    """

    repetition_penalty: float
    """Above 1, tokens of the prompt and the completion become less likely. Default 1."""
    temperature: float
    """0, the default, always takes the most probable token; 1 is the model's own distribution."""
    top_k: int
    """Keeps the k most probable tokens. 0, the default: all."""
    top_p: float
    """Keeps the fewest tokens that together are this probable. Default 1: all."""
    min_p: float
    """Keeps tokens at least this times as probable as the best. Default 0: all."""
    seed: int | None
    """Same seed, same text. Prompt i of a list uses seed + i. Default: a new one each time."""
    stop: Stop | Sequence[Stop]
    """Strings the text ends before, or ids of tokens it ends at, besides the end of text."""
    ignore_eos: bool
    """Whether to go on after the end of the text. Default False."""
    adapters: Sequence[AdapterUse]
    """Of each prompt. Default: at each token, the one that `set_adapter` last chose."""


class Model:
    """A language model ready to run; made by `load`."""

    def __init__(
        self,
        core: TextModel,
        source: Checkpoint | PackedModel | Package,
        dtype: str,
        placement: Placement,
        load_seconds: float,
    ) -> None:
        self._core = core
        self._placement = placement
        self._notes_logged = 0
        self._own_notes: list[str] = []
        self.why_not_engine = placement.why_not
        """Why the Neural Engine does not run this model; empty if it does."""
        self.fell_back = placement.fell_back
        """Whether the engine was preferred but is not there."""
        self._source = source
        config = _config_of(source) if isinstance(source, Package) else source.config
        self.config: dict[str, Any] = dict(config)
        """The content of the model's config.json."""
        self.dtype = dtype
        """How weights are kept: "fp32", "fp16", "bf16", "int8" or "int4"; see `load`."""
        self.last_stats = Stats(load_seconds=load_seconds)
        """Times of the last generation."""

    def __repr__(self) -> str:
        return (
            f"<Model {self.config['model_type']}: {self.num_parameters:,} parameters, "
            f"{self.dtype} on {self.device}>"
        )

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer beside the model, read at first use."""
        if isinstance(self._source, Package):
            return tokenizer.load(self._source.directory)
        if self._source.path is None:
            raise Error("this model was made without a tokenizer: use token ids")
        return tokenizer.load(self._source.path)

    @property
    def checkpoint(self) -> Checkpoint:
        """The model as it was read; Error for what was made to run only."""
        if isinstance(self._source, Package):
            raise Error(f"{self._source.directory}: a package has no checkpoint; give its model")
        if isinstance(self._source, PackedModel):
            raise Error(f"{self._source.path}: is packed; give the model it was made from")
        return self._source

    @property
    def device(self) -> str:
        """Where the model runs."""
        return self._core.device

    @property
    def prompt_device(self) -> str:
        """Where prompts are read."""
        return self._placement.device

    @property
    def decode_device(self) -> str:
        """Where the tokens that follow are read."""
        return self._placement.decode_device

    @property
    def head_device(self) -> str:
        """Where logits are computed."""
        return self._placement.head_device

    @property
    def notes(self) -> list[str]:
        """What went otherwise than asked for so far, such as prompts read in other programs.

        Each is a sentence, logged as a warning when it first holds.
        """
        return [*self._own_notes, *self._core.notes]

    @property
    def compile_seconds(self) -> float:
        """Spent compiling so far; programs are compiled when a shape is first needed."""
        return self._core.compile_seconds

    @property
    def num_parameters(self) -> int:
        """Numbers in all weights; a head tied to the embedding counts once."""
        return self._core.num_parameters

    @property
    def context(self) -> int:
        """Positions the model has: the most tokens it can read."""
        return self._core.context

    @classmethod
    def on_cpu(cls, found: Checkpoint, words: Tokenizer | None) -> Model:
        """A checkpoint in fp32 on the CPU; without `words` its tokenizer is the one beside it."""
        start = time.perf_counter()
        placement = place("cpu", None)
        core = _core_model(found, placement, "fp32")
        model = cls(core, found, "fp32", placement, time.perf_counter() - start)
        if words is not None:
            model.tokenizer = words
        return model

    def replace(self, found: Checkpoint) -> None:
        """Goes on as another model of the same shapes, on the same device, without adapters."""
        self._core = _core_model(found, self._placement, self.dtype)
        self._notes_logged = 0
        self._own_notes = []
        self._source = found
        self.config = dict(found.config)

    def logits(self, ids: TokenIds) -> NDArray[np.float32]:
        """Scores (T, V) of every token after each of the T given: row t is what follows ids[t]."""
        return self._core.logits(ids)

    def load_adapter(self, path: str | Path, name: str | None = None) -> str:
        """Loads a LoRA adapter that PEFT or `orion lora train` saved, and makes it active.

        Returns its name, by default that of the directory. Several may be loaded at once. On Error
        nothing has changed. One that was trained beside other weights is loaded with a note.
        """
        if isinstance(self._source, Package):
            raise Error(
                f"{self._source.directory}: a package's programs have no room for adapters; "
                "load the checkpoint"
            )
        loaded = adapter.read(path, self.config)
        name = name if name is not None else self._free_name(Path(path).resolve().name)
        self.add_adapter(loaded, name)
        if misfit := adapter.misfit(loaded, self._source):
            self._own_notes.append(f"{path}: {misfit}")
            _logger.warning("%s", self._own_notes[-1])
        return name

    def add_adapter(self, loaded: Adapter, name: str) -> None:
        """Adds an adapter in the model's order of rows, and makes it active."""
        self._core.adapters.add(name, loaded.shape, loaded.arrays)
        try:
            self._core.adapters.activate(name)
        except Error:
            self._core.adapters.remove(name)
            raise

    def set_adapter(self, name: str | None, scale: float = 1.0) -> None:
        """Makes a loaded adapter active from the next token on, or none: the model as it is.

        Nothing is compiled or loaded for it. `scale` multiplies what the adapter adds.
        """
        self._core.adapters.activate(name, scale)

    def unload_adapter(self, name: str) -> None:
        """Forgets an adapter; if it is the active one, none is active then.

        Prompts that are being continued with it by their own choice keep it until they end.
        """
        self._core.adapters.remove(name)

    @property
    def adapters(self) -> list[str]:
        """Names of the adapters that are loaded."""
        return self._core.adapters.names

    @property
    def active_adapter(self) -> str | None:
        """The adapter that the next tokens are computed with."""
        return self._core.adapters.active[0]

    def reserve_adapters(self, rank: int, targets: Sequence[str]) -> None:
        """Makes room for adapters to come: up to a rank, for modules such as "q_proj".

        Programs are compiled for what the loaded adapters need. With room reserved, loading one
        that fits compiles nothing.
        """
        shape = _core.LoraShape(rank=rank, scale=1.0, targets=list(targets))
        self._core.adapters.reserve(shape)

    def _free_name(self, wanted: str) -> str:
        taken = self.adapters
        names = (wanted if i == 1 else f"{wanted}-{i}" for i in itertools.count(1))
        return next(name for name in names if name not in taken)

    def graph(
        self, *, batch: int = 1, tokens: int = 1, cache: int = 0, last: bool = False
    ) -> Graph:
        """The graph this model computes for one shape.

        Without `cache` the tokens are a whole text; with it, they continue the `cache` rows of keys
        and values that each layer holds. `last` asks for the last position's logits only.
        """
        dtype = "fp32" if self.dtype == "fp32" else "fp16"
        return _core.model_graph(
            self.config, dtype=dtype, batch=batch, tokens=tokens, cache=cache, last=last
        )

    @overload
    def generate(
        self, prompt: Prompt, max_tokens: int = ..., **options: Unpack[Options]
    ) -> str: ...

    @overload
    def generate(
        self, prompt: Prompts, max_tokens: int = ..., **options: Unpack[Options]
    ) -> list[str]: ...

    def generate(
        self, prompt: Prompt | Prompts, max_tokens: int = 256, **options: Unpack[Options]
    ) -> str | list[str]:
        """What `prompt` is continued with; a list of prompts is continued together.

        An empty text starts from the tokenizer's BOS. The completion ends at the end of text, at
        `max_tokens`, or when the model has no further positions. See `Options` for the rest.
        """
        prompts, alone = _as_list(prompt)
        texts = [c.text for c in self._complete(prompts, max_tokens, options, logprobs=None)]
        return texts[0] if alone else texts

    @overload
    def generate_details(
        self,
        prompt: Prompt,
        max_tokens: int = ...,
        *,
        logprobs: int = ...,
        **options: Unpack[Options],
    ) -> Completion: ...

    @overload
    def generate_details(
        self,
        prompt: Prompts,
        max_tokens: int = ...,
        *,
        logprobs: int = ...,
        **options: Unpack[Options],
    ) -> list[Completion]: ...

    def generate_details(
        self,
        prompt: Prompt | Prompts,
        max_tokens: int = 256,
        *,
        logprobs: int = 0,
        **options: Unpack[Options],
    ) -> Completion | list[Completion]:
        """As `generate`, with token ids, log-probabilities, the reason it ended, and the seed.

        `logprobs` is how many of the most probable tokens to report at each position.
        """
        prompts, alone = _as_list(prompt)
        completions = self._complete(prompts, max_tokens, options, logprobs)
        return completions[0] if alone else completions

    def stream(
        self, prompt: Prompt, max_tokens: int = 256, **options: Unpack[Options]
    ) -> Generator[Piece, None, None]:
        """As `generate` for one prompt, each token's text as soon as it is certain."""
        prompts, alone = _as_list(prompt)
        if not alone:
            raise Error("stream: one prompt at a time; generate takes a list")
        ids = self._encode(prompts[0])
        generation = self._start([ids], max_tokens, options)
        return self._pieces(generation, len(ids), self._text_after(ids, options))

    def generate_ids(
        self, prompt: TokenIds, max_tokens: int = 256, **options: Unpack[Options]
    ) -> list[int]:
        """Token ids that follow token ids. No tokenizer is used: only ids in `stop` end them."""
        if strings := _stop_strings(options):
            raise Error(f"generate_ids: stop string {strings[0]!r}; only token ids end it")
        generation = self._start([prompt], max_tokens, {**options, "ignore_eos": True})
        tokens = [token for step in self._steps(generation, len(prompt)) for token in step]
        return [token.choice.id for token in tokens if not token.is_stop_token]

    def _complete(
        self, prompts: Sequence[Prompt], max_tokens: int, options: Options, logprobs: int | None
    ) -> list[Completion]:
        ids = [self._encode(prompt) for prompt in prompts]
        generation = self._start(ids, max_tokens, options, logprobs)
        texts = [self._text_after(prompt, options) for prompt in ids]
        completions = [Completion(seed=(generation.seed + i) % 2**64) for i in range(len(ids))]
        for step in self._steps(generation, sum(map(len, ids))):
            for token in step:
                if not token.is_stop_token:
                    i = token.sequence
                    completions[i].add(token.choice)
                    completions[i].text += texts[i].push(token.choice.id)
                    if texts[i].stopped:
                        generation.stop(i)
        for i, (completion, text) in enumerate(zip(completions, texts, strict=True)):
            completion.text += text.finish()
            completion.finish_reason = "stop" if text.stopped else generation.finish(i)
        return completions

    def _pieces(
        self, generation: Generation, prompt_tokens: int, text: CompletionText
    ) -> Generator[Piece, None, None]:
        for (token,) in self._steps(generation, prompt_tokens):
            if token.is_stop_token:
                break
            piece = Piece(text.push(token.choice.id), token.choice.id)
            if text.stopped:
                generation.stop(0)
            yield piece
        if rest := text.finish():
            yield Piece(rest)

    def _start(
        self,
        prompts: Sequence[TokenIds],
        max_tokens: int,
        options: Options,
        logprobs: int | None = None,
    ) -> Generation:
        sampling: dict[str, Any] = {
            key: value
            for key, value in options.items()
            if key not in ("stop", "ignore_eos", "adapters")
        }
        _check_seed(options.get("seed"))
        return Generation(
            self._core,
            list(prompts),
            _core.SamplerOptions(logprobs=logprobs, **sampling),
            max_tokens,
            self._stop_tokens(options),
            [use if isinstance(use, tuple) else (use, 1.0) for use in options.get("adapters", ())],
        )

    def _steps(self, generation: Generation, prompt_tokens: int) -> Iterator[list[GeneratedToken]]:
        stats = Stats(load_seconds=self.last_stats.load_seconds, prompt_tokens=prompt_tokens)
        self.last_stats = stats
        reads_prompt = True
        while not generation.done:
            start, compiled = time.perf_counter(), self.compile_seconds
            tokens = generation.step()
            elapsed, compiling = time.perf_counter() - start, self.compile_seconds - compiled
            seconds = max(elapsed - compiling, 0.0)
            stats = replace(stats, compile_seconds=stats.compile_seconds + compiling)
            if reads_prompt:
                stats = replace(stats, prompt_seconds=seconds, first_token_seconds=elapsed)
            else:
                stats = replace(
                    stats,
                    decode_tokens=stats.decode_tokens + len(tokens),
                    decode_seconds=stats.decode_seconds + seconds,
                )
            reads_prompt = False
            self.last_stats = stats
            self._log_notes()
            yield tokens

    def _log_notes(self) -> None:
        notes = self._core.notes
        for note in notes[self._notes_logged :]:
            _logger.warning("%s: %s", self.device, note)
        self._notes_logged = len(notes)

    def _encode(self, prompt: Prompt) -> TokenIds:
        if not isinstance(prompt, str):
            return prompt
        ids = self.tokenizer.encode(prompt)
        if ids:
            return ids
        if self.tokenizer.bos_id is None:
            raise Error("prompt: empty, and this tokenizer has no BOS token to start from")
        return [self.tokenizer.bos_id]

    def _text_after(self, prompt: TokenIds, options: Options) -> CompletionText:
        stream = self.tokenizer.stream([int(token_id) for token_id in prompt])
        return CompletionText(stream, _stop_strings(options))

    def _stop_tokens(self, options: Options) -> list[int]:
        ids = [stop for stop in _stops(options) if not isinstance(stop, str)]
        return ids if options.get("ignore_eos") else [*ids, *self.tokenizer.eos_ids]


def load(
    path: str | Path = "stories260K",
    device: str = "auto",
    dtype: str | None = None,
    threads: int | None = None,
    policy: str | None = None,
    decode: str = "engine",
    head: str = "host",
) -> Model:
    """Loads a bundled model by name, a directory (Hugging Face's, or packed), a llama2.c `.bin`, or
    a package.

    `device` is "cpu", "ane" (the Neural Engine), "sim:PROFILE" (the engine simulated) or "auto".
    `policy` says what happens without an engine: "require" it, "prefer" it, "never" use it.
    `decode` "cpu" leaves only prompts to the engine; `head` "engine" puts the logits there too,
    which the host computes otherwise. `dtype` is one of `DTYPES`, by default "fp16", or "fp32" for
    a checkpoint that is: "bf16" multiplies in bfloat16, which is fastest for prompts; "int8" and
    "int4" keep matrices in 8.5 and 4.5 bits a weight, which is fastest for what follows. All but
    "fp16" are the CPU's. `threads` can be chosen once per process, before anything has run; by
    default it is the number of CPUs. A package runs its own programs wherever it is loaded, in
    fp16. A packed model (`orion convert`) is mapped, in the dtype that it was made with.
    """
    start = time.perf_counter()
    if dtype is not None and dtype not in DTYPES:
        raise Error(f"dtype {dtype!r}: {', '.join(DTYPES[:-1])} or {DTYPES[-1]} is needed")
    if threads is not None:
        use_threads(threads)
    located = checkpoint.locate(path)
    placement = place_model(device, policy, decode, head)
    if placement.fell_back:
        _logger.warning("on the CPU, not on the engine: %s", placement.why_not)
    if _core.is_package(located):
        return _load_package(Package(located), placement, dtype, start)
    if packed.is_packed(located):
        return _load_packed(packed.read(located), placement, dtype, start)
    found = checkpoint.read(located)
    found.check_complete()
    if placement.on_engine and dtype not in (None, "fp16"):
        raise Error(f"dtype {dtype!r}: the engine computes in fp16")
    dtype = dtype or ("fp16" if placement.on_engine else found.loaded_dtype)
    core = _core_model(found, placement, dtype)
    return Model(core, found, dtype, placement, time.perf_counter() - start)


def _load_packed(
    found: PackedModel, placement: Placement, dtype: str | None, start: float
) -> Model:
    if placement.on_engine:
        raise Error(f"{found.path}: is packed for the CPU; engines take the model it was made from")
    if dtype not in (None, found.dtype):
        raise Error(
            f"{found.path}: dtype {dtype!r}: is packed in {found.dtype}; leave dtype out, or "
            "convert the model it was made from again"
        )
    core = found.load(placement.device)
    return Model(core, found, found.dtype, placement, time.perf_counter() - start)


def _load_package(package: Package, placement: Placement, dtype: str | None, start: float) -> Model:
    if dtype not in (None, "fp16"):
        raise Error(f"{package.directory}: dtype {dtype!r}: a package's programs compute in fp16")
    if placement.use != "engine":
        raise Error(
            f"{package.directory}: a package decodes with its programs and has the head on the "
            f"host; decode {placement.decode!r} and head {placement.head!r} need the checkpoint"
        )
    for path, _, _ in package.files:
        if "/" not in path:
            package.read(path)  # what the tokenizer is made of is what was written
    core = package.load(placement.device)
    return Model(core, package, "fp16", placement, time.perf_counter() - start)


def _config_of(package: Package) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(package.read("config.json"))
    return config


def _core_model(found: Checkpoint, placement: Placement, dtype: str) -> TextModel:
    if not placement.on_engine:
        return LanguageModel(found.config, found.weights, dtype, placement.device)
    return EngineModel(found.config, found.weights, placement.device, placement.use)


def use_threads(threads: int) -> None:
    """Sizes the process's thread pool, which is made when it is first asked for."""
    os.environ["ORION_NUM_THREADS"] = str(threads)
    if (running := _core.thread_count()) != threads:
        raise Error(
            f"threads={threads}: this process already runs {running}; "
            "choose before the first model is loaded or program run"
        )


def _as_list(prompt: Prompt | Prompts) -> tuple[Sequence[Prompt], bool]:
    """A list of prompts, and whether there was just one."""
    if isinstance(prompt, str):
        return [prompt], True
    if len(prompt) == 0:
        raise Error("prompt: an empty list holds neither token ids nor prompts")
    if any(isinstance(part, (int, np.integer)) for part in prompt):
        return [cast(TokenIds, prompt)], True
    return cast(Prompts, prompt), False


def _stops(options: Options) -> list[Stop]:
    stop = options.get("stop", ())
    stops = [stop] if isinstance(stop, (str, int)) else list(stop)
    if "" in stops:
        raise Error("stop: an empty string would end every text before it begins")
    return stops


def _stop_strings(options: Options) -> list[str]:
    return [stop for stop in _stops(options) if isinstance(stop, str)]


def _check_seed(seed: int | None) -> None:
    if seed is not None and not 0 <= seed < 2**64:
        raise Error(f"seed is {seed}, from 0 to 2^64 - 1 is needed")
