# Written by docs/generate.py; do not edit.
"""
The compiled core of orion_ane.
"""

from __future__ import annotations
import collections.abc
import numpy
import numpy.typing
import os
import pathlib
import typing

__all__: list[str] = [
    "Adapter",
    "AdapterSet",
    "Choice",
    "Dataset",
    "DeviceError",
    "EngineModel",
    "Error",
    "GeneratedToken",
    "Generation",
    "Graph",
    "LanguageModel",
    "LoraShape",
    "Package",
    "PackedFile",
    "Program",
    "Sampler",
    "SamplerOptions",
    "StepReport",
    "TextModel",
    "TokenFile",
    "TokenWriter",
    "TrainOptions",
    "TrainState",
    "Trainer",
    "Value",
    "WeightFile",
    "add_profile",
    "blob_entries",
    "cache_directory",
    "call",
    "compile",
    "cpu_ceiling",
    "cpu_kernels",
    "device_names",
    "diff_mil",
    "emit_mil",
    "engine_info",
    "engine_usage",
    "initial_lora",
    "is_package",
    "learning_rate",
    "legal_program",
    "legalize",
    "limit_families",
    "limits",
    "lora_modules",
    "lower_to_mil",
    "measured_profile",
    "model_context",
    "model_graph",
    "model_types",
    "model_weights",
    "op_table",
    "pack_weights",
    "parse_mil",
    "patch_weights",
    "probes",
    "profile_fields",
    "profiles",
    "run_probe",
    "segment_graph",
    "simulator_counters",
    "simulator_freeze_weights",
    "simulator_restart",
    "split",
    "thread_count",
    "update_verdicts",
    "verify_ane",
    "violations",
    "write_package",
    "write_packed",
    "write_program",
    "write_weights",
]

class Error(ValueError):
    pass

class DeviceError(Error):
    pass

class Graph:
    """
    A program as data: append-only nodes with static types.
    """
    def __init__(self, name: str = "main") -> None:
        """
        An empty graph; `name` is its function's name in MIL text.
        """
    def __len__(self) -> int: ...
    def __repr__(self) -> str: ...
    def __str__(self) -> str: ...
    def constant(self, value: typing.Any, dtype: str | None = None, name: str = "") -> Value:
        """
        A constant from a number (fp32 unless `dtype` says else) or an array (copied).
        """
    def evaluate(self, inputs: dict, weights: dict = {}) -> dict:
        """
        Runs the graph by the op table's reference kernels: slow, obviously right.
        """
    def expand(self, ops: collections.abc.Sequence[str] | None = None) -> Graph:
        """
        Composite ops (those named, or all) replaced by simpler ones.
        """
    def gradient(self, loss: Value, wrt: collections.abc.Sequence[Value]) -> list[Value]:
        """
        Extends the graph with the gradient of a scalar with respect to each value of `wrt`.
        """
    def input(self, name: str, shape: typing.Any, dtype: str = "fp32") -> Value:
        """
        A run-time input, bound by name.
        """
    def optimize(self) -> Graph:
        """
        A simpler graph with the same results.
        """
    def output(self, name: str, value: Value) -> None:
        """
        Names a result of the program.
        """
    def same_structure(self, other: Graph) -> bool:
        """
        True if both compute the same in the same way, node names aside.
        """
    def verify(self) -> None:
        """
        Raises Error if the graph is not well formed.
        """
    def weight(self, name: str, shape: typing.Any, dtype: str = "fp32") -> Value:
        """
        A named tensor given when the program is compiled.
        """
    @property
    def inputs(self) -> dict: ...
    @property
    def name(self) -> str: ...
    @property
    def nodes(self) -> list[Value]: ...
    @property
    def outputs(self) -> dict: ...
    @property
    def weights(self) -> dict: ...

class Value:
    """
    One result inside a graph under construction.
    """

    __array_ufunc__ = None
    def __add__(self, arg0: typing.Any) -> Value: ...
    def __eq__(self, arg0: typing.Any) -> bool: ...
    def __hash__(self) -> int: ...
    def __matmul__(self, arg0: typing.Any) -> Value: ...
    def __mul__(self, arg0: typing.Any) -> Value: ...
    def __neg__(self) -> Value: ...
    def __pow__(self, arg0: typing.Any) -> Value: ...
    def __radd__(self, arg0: typing.Any) -> Value: ...
    def __repr__(self) -> str: ...
    def __rmatmul__(self, arg0: typing.Any) -> Value: ...
    def __rmul__(self, arg0: typing.Any) -> Value: ...
    def __rpow__(self, arg0: typing.Any) -> Value: ...
    def __rsub__(self, arg0: typing.Any) -> Value: ...
    def __rtruediv__(self, arg0: typing.Any) -> Value: ...
    def __sub__(self, arg0: typing.Any) -> Value: ...
    def __truediv__(self, arg0: typing.Any) -> Value: ...
    @property
    def attrs(self) -> dict:
        """
        Attributes, complete and canonical.
        """
    @property
    def dtype(self) -> str:
        """
        "fp16", "fp32", "int32" or "bool".
        """
    @property
    def graph(self) -> Graph: ...
    @property
    def name(self) -> str:
        """
        Name of the node, unique in its graph.
        """
    @property
    def op(self) -> str:
        """
        Name of the op.
        """
    @property
    def operands(self) -> list:
        """
        Operands in the op table's order; None where absent.
        """
    @property
    def shape(self) -> tuple: ...
    @property
    def value(self) -> typing.Any:
        """
        A constant's value as a read-only array; None otherwise.
        """

class Program:
    """
    A compiled graph: call it with its inputs by name, get its outputs by name.
    """
    def __call__(self, **kwargs: numpy.ndarray) -> dict:
        """
        Runs with the arrays given (not copied where dtype and layout agree); returns new arrays.
        """
    def __repr__(self) -> str: ...
    def describe(self) -> str:
        """
        The plan, one line per step.
        """
    def input(self, name: str) -> numpy.ndarray:
        """
        An input's memory, to write into.
        """
    def output(self, name: str) -> numpy.ndarray:
        """
        An output's memory, to read after `run`; the next run overwrites it.
        """
    def run(self) -> None:
        """
        Runs on the program's own buffers: see `input` and `output`.
        """
    def time_runs(self, count: typing.SupportsInt | typing.SupportsIndex) -> float:
        """
        Seconds of so many runs one after the other, without Python between them.
        """
    def update(self, weights: dict) -> None:
        """
        Replaces whole weights without planning again. All or nothing.
        """
    def weight(self, name: str) -> numpy.ndarray:
        """
        A copy of a weight's current value.
        """
    @property
    def device(self) -> str:
        """
        Where it runs.
        """
    @property
    def inputs(self) -> dict:
        """
        {name: (dtype, shape)}
        """
    @property
    def outputs(self) -> dict:
        """
        {name: (dtype, shape)}
        """

class WeightFile:
    """
    A mapped weight file, checked when opened.
    """
    def __init__(self, path: os.PathLike | str | bytes) -> None: ...
    def chunks(self) -> list:
        """
        (offset, name or "", type, shape) of each chunk, by ascending offset.
        """
    def payload(self, offset: typing.SupportsInt | typing.SupportsIndex) -> numpy.ndarray:
        """
        A chunk's bytes, not copied, read-only.
        """
    def unpacked(
        self, offset: typing.SupportsInt | typing.SupportsIndex
    ) -> numpy.typing.NDArray[numpy.uint8]:
        """
        The elements of a chunk of a type narrower than a byte, one per byte.
        """

class LoraShape:
    """
    Which modules get an adapter, and how large it is.
    """
    def __init__(
        self,
        *,
        rank: typing.SupportsInt | typing.SupportsIndex,
        scale: typing.SupportsFloat | typing.SupportsIndex,
        targets: collections.abc.Sequence[str],
    ) -> None: ...
    @property
    def rank(self) -> int: ...
    @property
    def scale(self) -> float: ...
    @property
    def targets(self) -> list[str]: ...

class Adapter:
    """
    A and B of every module that an adapter reaches.
    """
    def __init__(self, config: dict, shape: LoraShape, arrays: dict) -> None: ...
    def merged(self, module: str, weight: numpy.ndarray) -> numpy.ndarray:
        """
        fp32: the module's weight + scale B A, in the layout that the weight has.
        """
    @property
    def shape(self) -> LoraShape: ...

class AdapterSet:
    """
    The adapters that are resident beside a model.
    """
    def activate(
        self, name: str | None, scale: typing.SupportsFloat | typing.SupportsIndex = 1.0
    ) -> None:
        """
        What the next tokens are computed with; None: no adapter.
        """
    def add(self, name: str, shape: LoraShape, arrays: dict) -> None: ...
    def remove(self, name: str) -> None: ...
    def reserve(self, capacity: LoraShape) -> None:
        """
        Has programs compiled for adapters to come: their targets, and a rank that holds them.
        """
    @property
    def active(self) -> tuple[str | None, float]:
        """
        (name or None, scale).
        """
    @property
    def capacity(self) -> LoraShape:
        """
        What programs are compiled for.
        """
    @property
    def names(self) -> list[str]: ...

class TextModel:
    """
    A model that can continue texts.
    """
    def logits(self, ids: typing.Any) -> numpy.ndarray:
        """
        fp32 (T, V): row t is what follows ids[:t + 1].
        """
    @property
    def adapters(self) -> AdapterSet: ...
    @property
    def compile_seconds(self) -> float:
        """
        Spent so far; programs are compiled when a shape is first asked for.
        """
    @property
    def compiles(self) -> int:
        """
        Programs compiled so far.
        """
    @property
    def context(self) -> int: ...
    @property
    def device(self) -> str: ...
    @property
    def notes(self) -> list[str]:
        """
        What went otherwise than asked for so far: sentences.
        """
    @property
    def num_parameters(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...

class LanguageModel(TextModel):
    """
    A configuration with its weights on a device that runs it whole.
    """
    def __init__(self, config: dict, weights: typing.Any, dtype: str, device: str) -> None: ...

class EngineModel(TextModel):
    """
    A configuration with its weights in segments on an engine, fp16.
    """
    def __init__(
        self, config: dict, weights: typing.Any, engine: str, use: str = "engine", host: str = "cpu"
    ) -> None:
        """
        use is 'engine' for prompts and what follows, 'engine-prefill' for prompts alone, or 'engine-and-head' for the logits too.
        """

class SamplerOptions:
    """
    How tokens are chosen; see Model.generate.
    """
    def __init__(
        self,
        *,
        temperature: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        top_k: typing.SupportsInt | typing.SupportsIndex = 0,
        top_p: typing.SupportsFloat | typing.SupportsIndex = 1.0,
        min_p: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        repetition_penalty: typing.SupportsFloat | typing.SupportsIndex = 1.0,
        seed: typing.SupportsInt | typing.SupportsIndex | None = None,
        logprobs: typing.SupportsInt | typing.SupportsIndex | None = None,
    ) -> None: ...

class Choice:
    """
    A token chosen from logits.
    """
    @property
    def id(self) -> int: ...
    @property
    def logprob(self) -> float:
        """
        Under the model's own distribution, no filter applied.
        """
    @property
    def top(self) -> list[tuple[int, float]]:
        """
        The most probable tokens: (id, logprob), best first.
        """

class Sampler:
    """
    Chooses tokens of one sequence.
    """
    def __init__(
        self, options: SamplerOptions, vocab: typing.SupportsInt | typing.SupportsIndex
    ) -> None: ...
    def choose(self, logits: numpy.ndarray) -> Choice:
        """
        Chooses from fp32 logits (V,).
        """
    def see(self, id: typing.SupportsInt | typing.SupportsIndex) -> None:
        """
        Counts a token as seen by the repetition penalty.
        """
    @property
    def seed(self) -> int: ...

class GeneratedToken:
    """
    What one step gave one sequence.
    """
    @property
    def choice(self) -> Choice: ...
    @property
    def finish(self) -> str:
        """
        '' if the sequence goes on, else 'stop', 'length' or 'context'.
        """
    @property
    def is_stop_token(self) -> bool:
        """
        Then it is no part of the text.
        """
    @property
    def sequence(self) -> int: ...

class Generation:
    """
    Completes a batch of prompts, one token each per step.
    """
    def __init__(
        self,
        model: TextModel,
        prompts: list,
        sampler: SamplerOptions,
        max_tokens: typing.SupportsInt | typing.SupportsIndex,
        stop_tokens: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex],
        adapters: collections.abc.Sequence[
            tuple[str | None, typing.SupportsFloat | typing.SupportsIndex]
        ] = [],
    ) -> None: ...
    def finish(self, sequence: typing.SupportsInt | typing.SupportsIndex) -> str:
        """
        Why a sequence ended; '' if it has not.
        """
    def step(self) -> list[GeneratedToken]:
        """
        The next token of every unfinished sequence; the first call reads the prompts.
        """
    def stop(self, sequence: typing.SupportsInt | typing.SupportsIndex) -> None:
        """
        Ends a sequence.
        """
    @property
    def done(self) -> bool: ...
    @property
    def seed(self) -> int: ...

class Package:
    """
    A model compiled for an engine, that runs without the checkpoint.
    """
    def __init__(self, directory: os.PathLike | str | bytes) -> None: ...
    def load(self, device: str, host: str = "cpu") -> TextModel:
        """
        The model, its programs on `device` and the rest on `host`.
        """
    def read(self, path: str) -> bytes:
        """
        The content of a file; Error if it is not what was written.
        """
    def verify(self) -> None:
        """
        Error naming the first file that is not what was written.
        """
    @property
    def buckets(self) -> list[int]:
        """
        Columns of the programs that read prompts.
        """
    @property
    def directory(self) -> pathlib.Path: ...
    @property
    def files(self) -> list:
        """
        (path, bytes, SHA-256) of each.
        """
    @property
    def profile(self) -> str:
        """
        The profile it was made for.
        """
    @property
    def programs(self) -> int:
        """
        How many there are.
        """
    @property
    def version(self) -> str:
        """
        The version of Orion that wrote it.
        """

class PackedFile:
    """
    Weights packed for the CPU in a file that is mapped.
    """
    def __init__(self, path: os.PathLike | str | bytes) -> None: ...
    def load(self, config: dict, device: str = "cpu") -> LanguageModel:
        """
        The model with these weights, which are read where they are.
        """
    def verify(self) -> None:
        """
        Error naming the first tensor that is not what was written.
        """
    @property
    def dtype(self) -> str:
        """
        How they are kept: "fp32", "int4", ...
        """
    @property
    def source(self) -> str:
        """
        What they were made from: a fingerprint.
        """
    @property
    def tensors(self) -> list:
        """
        (name, format, shape, bytes) of each.
        """

class TokenFile:
    """
    A mapped file of token ids.
    """
    def __init__(self, path: os.PathLike | str | bytes, format: str = "auto") -> None: ...
    def __len__(self) -> int: ...
    def slice(
        self,
        begin: typing.SupportsInt | typing.SupportsIndex,
        end: typing.SupportsInt | typing.SupportsIndex,
    ) -> numpy.ndarray:
        """
        Tokens [begin, end) as int32.
        """
    @property
    def facts(self) -> typing.Any:
        """
        What Orion's header says; None for any other file.
        """
    @property
    def hash(self) -> str:
        """
        SHA-256 of the tokens' bytes.
        """
    @property
    def kind(self) -> str:
        """
        Whose header it has: raw, llm.c or orion.
        """
    @property
    def max_token(self) -> int:
        """
        The largest id.
        """
    @property
    def path(self) -> pathlib.Path: ...
    @property
    def width(self) -> int:
        """
        Bytes per token.
        """

class TokenWriter:
    """
    Writes a token file with Orion's header, all or nothing.
    """
    def __init__(
        self,
        path: os.PathLike | str | bytes,
        vocab: typing.SupportsInt | typing.SupportsIndex,
        separator: typing.SupportsInt | typing.SupportsIndex | None = None,
        tokenizer: str = "",
    ) -> None: ...
    def __len__(self) -> int: ...
    def commit(
        self,
        documents: typing.SupportsInt | typing.SupportsIndex,
        text_bytes: typing.SupportsInt | typing.SupportsIndex,
    ) -> None:
        """
        Puts the file in its place.
        """
    def discard(self) -> None:
        """
        Leaves everything as it was.
        """
    def write(self, ids: numpy.ndarray) -> None:
        """
        Appends int32 ids.
        """
    @property
    def width(self) -> int:
        """
        Bytes per token.
        """

class Dataset:
    """
    Batches of windows of a token file.
    """
    def __init__(
        self,
        file: TokenFile,
        *,
        sequence: typing.SupportsInt | typing.SupportsIndex = 256,
        seed: typing.SupportsInt | typing.SupportsIndex = 0,
        validation: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        vocab: typing.SupportsInt | typing.SupportsIndex = 0,
        shuffle: bool = True,
        rank: typing.SupportsInt | typing.SupportsIndex = 0,
        ranks: typing.SupportsInt | typing.SupportsIndex = 1,
    ) -> None: ...
    def next(self, batch: typing.SupportsInt | typing.SupportsIndex) -> tuple:
        """
        The next (ids, targets), int32 (B, S).
        """
    def seek(
        self,
        epoch: typing.SupportsInt | typing.SupportsIndex,
        window: typing.SupportsInt | typing.SupportsIndex,
    ) -> None: ...
    def validation(
        self,
        begin: typing.SupportsInt | typing.SupportsIndex,
        batch: typing.SupportsInt | typing.SupportsIndex,
    ) -> tuple:
        """
        Validation windows [begin, begin + batch) in the file's order.
        """
    @property
    def cursor(self) -> tuple[int, int]:
        """
        (epoch, window): where the next batch comes from.
        """
    @property
    def hash(self) -> str:
        """
        Identifies tokens, windows and order.
        """
    @property
    def validation_windows(self) -> int: ...
    @property
    def windows(self) -> int:
        """
        Windows of an epoch.
        """

class TrainOptions:
    """
    How a Trainer trains; see orion_ane.Trainer.
    """
    def __init__(
        self,
        *,
        batch: typing.SupportsInt | typing.SupportsIndex = 1,
        sequence: typing.SupportsInt | typing.SupportsIndex = 256,
        beta1: typing.SupportsFloat | typing.SupportsIndex = 0.9,
        beta2: typing.SupportsFloat | typing.SupportsIndex = 0.999,
        epsilon: typing.SupportsFloat | typing.SupportsIndex = 1e-08,
        weight_decay: typing.SupportsFloat | typing.SupportsIndex = 0.01,
        clip: typing.SupportsFloat | typing.SupportsIndex = 1.0,
        loss_scale: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        dynamic_loss_scale: bool = True,
        growth_interval: typing.SupportsInt | typing.SupportsIndex = 200,
        check_every: typing.SupportsInt | typing.SupportsIndex = 100,
        lora: LoraShape | None = None,
        dropout: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        dropout_seed: typing.SupportsInt | typing.SupportsIndex = 0,
        process: typing.SupportsInt | typing.SupportsIndex = 0,
        processes: typing.SupportsInt | typing.SupportsIndex = 1,
        precision: str = "fp32",
    ) -> None: ...
    @property
    def batch(self) -> int: ...
    @property
    def sequence(self) -> int: ...

class TrainState:
    """
    What a resumed run needs besides the parameters.
    """
    def __init__(
        self,
        *,
        step: typing.SupportsInt | typing.SupportsIndex,
        optimizer_steps: typing.SupportsInt | typing.SupportsIndex,
        loss_scale: typing.SupportsFloat | typing.SupportsIndex,
        good_steps: typing.SupportsInt | typing.SupportsIndex,
    ) -> None: ...
    @property
    def good_steps(self) -> int:
        """
        Since the loss scale last changed.
        """
    @property
    def loss_scale(self) -> float: ...
    @property
    def optimizer_steps(self) -> int:
        """
        Steps that were not skipped.
        """
    @property
    def step(self) -> int: ...

class StepReport:
    """
    What a step did.
    """
    @property
    def gradient_norm(self) -> float:
        """
        Before clipping.
        """
    @property
    def loss(self) -> float:
        """
        Mean over the target tokens.
        """
    @property
    def loss_scale(self) -> float: ...
    @property
    def skipped(self) -> bool:
        """
        The gradients were not finite; no weight has changed.
        """
    @property
    def step(self) -> int:
        """
        Steps taken, this one included.
        """
    @property
    def times(self) -> dict:
        """
        Seconds: device, host, gradients, optimizer, update.
        """
    @property
    def tokens(self) -> int:
        """
        Targets that counted.
        """

class Trainer:
    """
    Trains a model: layers on a device, the rest on the host.
    """
    def __init__(
        self, config: dict, weights: typing.Any, device: str, options: TrainOptions
    ) -> None: ...
    def accumulate(self, ids: typing.Any, targets: typing.Any) -> float:
        """
        Forward and backward of one micro-batch (B, S); its mean loss.
        """
    def evaluate(self, ids: typing.Any, targets: typing.Any) -> float:
        """
        The mean loss of a micro-batch, without gradients.
        """
    def restore(self, state: TrainState) -> None:
        """
        Continues from a state whose weights and moments have been written.
        """
    def step(self, learning_rate: typing.SupportsFloat | typing.SupportsIndex) -> StepReport:
        """
        One step of the optimizer with the gradients so far.
        """
    @property
    def accumulated(self) -> tuple[float, int]:
        """
        (loss sum, targets) of the micro-batches since the last step; where processes train together, set to the sum over them before `step`.
        """
    @accumulated.setter
    def accumulated(
        self,
        arg1: tuple[
            typing.SupportsFloat | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex
        ],
    ) -> None: ...
    @property
    def activation_bytes(self) -> int: ...
    @property
    def checks(self) -> int:
        """
        Proofs so far that the device computed with new weights.
        """
    @property
    def compile_seconds(self) -> float: ...
    @property
    def device(self) -> str: ...
    @property
    def first_moments(self) -> dict: ...
    @property
    def gradients(self) -> dict:
        """
        Sums since the last step, times the loss scale.
        """
    @property
    def num_parameters(self) -> int: ...
    @property
    def programs(self) -> int:
        """
        Compiled for the device.
        """
    @property
    def second_moments(self) -> dict: ...
    @property
    def state(self) -> TrainState: ...
    @property
    def weights(self) -> dict:
        """
        {name: fp32 array}, views of the trainer's memory; call `restore` after writing.
        """

def add_profile(profile: dict) -> str:
    """
    Makes a measured profile known by its name, which is returned.
    """

def blob_entries(graph: Graph) -> list:
    """
    (name, offset, dtype, shape) of what the program's weight file holds.
    """

def cache_directory() -> str:
    """
    Where findings are kept between processes.
    """

def call(op: str, operands: list, attrs: dict, name: str) -> Value:
    """
    Appends an op to the graph of its operands.
    """

def compile(graph: Graph, weights: dict = {}, device: str = "auto") -> Program:
    """
    Compiles a graph for a device. `weights` holds every weight of the graph by name.
    """

def cpu_ceiling(
    *,
    threads: typing.SupportsInt | typing.SupportsIndex,
    bytes: typing.SupportsInt | typing.SupportsIndex,
    seconds: typing.SupportsFloat | typing.SupportsIndex,
) -> dict:
    """
    The most operations per second of multiply-adds in fp32, bf16 and int8, and bytes read per second of a stream so long: best of about `seconds` each.
    """

def cpu_kernels() -> str:
    """
    The instruction set that the CPU's kernels use here.
    """

def device_names() -> list[str]:
    """
    The devices of this build.
    """

def diff_mil(a: Graph, b: Graph) -> list[str]:
    """
    How two graphs differ, a line each.
    """

def emit_mil(graph: Graph) -> str:
    """
    The graph as MIL text.
    """

def engine_info(device: str) -> dict:
    """
    Framework, chip, system, the profile programs are made for, and what was found of the classes used.
    """

def engine_usage(device: str) -> dict:
    """
    Compiles, loads and cache hits of this process.
    """

def initial_lora(
    config: dict, shape: LoraShape, seed: typing.SupportsInt | typing.SupportsIndex = 0
) -> dict:
    """
    Values to begin training with: A uniform in +-1 / sqrt(in), B zeros.
    """

def is_package(directory: os.PathLike | str | bytes) -> bool:
    """
    Whether the directory has a manifest.
    """

def learning_rate(
    step: typing.SupportsInt | typing.SupportsIndex,
    *,
    peak: typing.SupportsFloat | typing.SupportsIndex,
    warmup: typing.SupportsInt | typing.SupportsIndex = 0,
    total: typing.SupportsInt | typing.SupportsIndex = 0,
    shape: str = "cosine",
    floor: typing.SupportsFloat | typing.SupportsIndex = 0.1,
) -> float:
    """
    The learning rate of step 0, 1, ...: a linear rise over `warmup` steps, then 'constant', 'linear' or 'cosine' down to `floor` times the peak at step `total`.
    """

def legal_program(graph: Graph, weights: dict, profile: str) -> tuple:
    """
    The same, and {name: array} of its weights from those of the graph.
    """

def legalize(graph: Graph, profile: str) -> Graph:
    """
    The graph as the profile takes it.
    """

def limit_families() -> list:
    """
    (name, doc) of the kinds of limits.
    """

def limits() -> list:
    """
    Every limit of the engine that is known, as dicts.
    """

def lora_modules(config: dict, shape: LoraShape) -> dict:
    """
    {module: (in, out)} of every module that is a target.
    """

def lower_to_mil(graph: Graph) -> Graph:
    """
    The graph as `emit_mil` writes it.
    """

def measured_profile(results: collections.abc.Sequence[dict], name: str) -> dict:
    """
    The profile that follows from probe results.
    """

def model_context(config: dict) -> int:
    """
    Positions that a model of this configuration has.
    """

def model_graph(
    config: dict,
    *,
    dtype: str = "fp32",
    batch: typing.SupportsInt | typing.SupportsIndex = 1,
    tokens: typing.SupportsInt | typing.SupportsIndex = 1,
    cache: typing.SupportsInt | typing.SupportsIndex = 0,
    last: bool = False,
) -> Graph:
    """
    The graph of a model for one shape; cache=0 reads a whole text without a cache.
    """

def model_types() -> list[str]:
    """
    Every `model_type` that can run.
    """

def model_weights(config: dict) -> dict:
    """
    {name: shape} of the weights a config asks for.
    """

def op_table() -> list:
    """
    Every op: name, doc, args, attrs.
    """

def pack_weights(
    type: str, values: typing.Annotated[numpy.typing.ArrayLike, numpy.uint8]
) -> numpy.typing.NDArray[numpy.uint8]:
    """
    Packs elements of a type narrower than a byte.
    """

def parse_mil(text: str, function: str | None = None) -> Graph:
    """
    A function of a MIL text.
    """

def patch_weights(path: os.PathLike | str | bytes, rows: list) -> None:
    """
    Replaces the payloads of (name or offset, payload) rows, all or none.
    """

def probes() -> list:
    """
    Id and question of every probe, and why it is not asked.
    """

def profile_fields() -> list:
    """
    (name, doc) of a profile's numbers and flags.
    """

def profiles() -> list:
    """
    The built-in profiles, as dicts.
    """

def run_probe(device: str, probe: str) -> dict:
    """
    Runs one probe; its result as a dict.
    """

def segment_graph(
    config: dict,
    kind: str,
    *,
    layer: typing.SupportsInt | typing.SupportsIndex = 0,
    tokens: typing.SupportsInt | typing.SupportsIndex = 16,
    first: typing.SupportsInt | typing.SupportsIndex = 0,
    count: typing.SupportsInt | typing.SupportsIndex = 0,
) -> Graph:
    """
    The graph of one segment: 'attention', 'feed_forward', 'projection' or 'output' of a layer, or 'head' for token ids first .. first + count - 1 (0: all).
    """

def simulator_counters(profile: str) -> dict:
    """
    What is alive in a simulated engine.
    """

def simulator_freeze_weights(profile: str, frozen: bool = True) -> None:
    """
    A fault to test for: from now on a simulated engine loads what it knows with the weights it has.
    """

def simulator_restart(profile: str) -> None:
    """
    Forgets a simulated engine's compile budget, its compiled models, and those that nobody uses.
    """

def split(
    x: Value,
    num_splits: typing.SupportsInt | typing.SupportsIndex | None,
    axis: typing.SupportsInt | typing.SupportsIndex,
    split_sizes: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex] | None,
) -> list[Value]:
    """
    A value cut into slices.
    """

def thread_count() -> int:
    """
    Threads of this process's pool.
    """

def update_verdicts(device: str) -> list:
    """
    Which weight update strategies have an effect here.
    """

def verify_ane(program: Graph | str, profile: str) -> None:
    """
    Error naming the first limit that is crossed.
    """

def violations(program: Graph | str, profile: str) -> list[tuple[str, str]]:
    """
    (limit, where) of everything that a graph or MIL text crosses.
    """

def write_package(
    directory: os.PathLike | str | bytes,
    config: bytes,
    weights: typing.Any,
    *,
    profile: str = "strict",
    buckets: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex] = [],
    files: collections.abc.Mapping[str, bytes] = {},
    replace: bool = False,
    progress: typing.Any = None,
) -> None:
    """
    Writes a package: all of it or nothing. `config` is the content of a config.json.
    """

def write_packed(
    path: os.PathLike | str | bytes, config: dict, weights: typing.Any, dtype: str, source: str
) -> None:
    """
    Packs a model's weights and writes them, whole or not at all.
    """

def write_program(graph: Graph, weights: dict, directory: os.PathLike | str | bytes) -> None:
    """
    Writes model.mil and weights/weight.bin.
    """

def write_weights(path: os.PathLike | str | bytes, rows: list) -> list[int]:
    """
    Writes (name, type, shape, payload) rows; returns their offsets.
    """

__version__: str = "0.1.0"
