"""What comes back from a model: text piece by piece, and the whole with its details."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from orion_ane._core import Choice
from orion_ane.tokenizer import TextStream


class Piece(str):
    """Text that one token completed, perhaps empty; the pieces of a stream join to its text."""

    id: int | None
    """The token; None for text that was held back until the end."""

    def __new__(cls, text: str, token_id: int | None = None) -> Piece:
        """A piece of `text`."""
        piece = super().__new__(cls, text)
        piece.id = token_id
        return piece

    @property
    def text(self) -> str:
        """The piece as a plain string."""
        return str.__str__(self)


@dataclass(frozen=True)
class Stats:
    """Times of the last generation, in seconds."""

    load_seconds: float = 0.0
    """Reading the model's files and handing the weights to the device."""
    prompt_tokens: int = 0
    """Of all prompts together."""
    prompt_seconds: float = 0.0
    """Until every prompt had its first new token, compiling aside."""
    decode_tokens: int = 0
    """Tokens after the first of each prompt."""
    decode_seconds: float = 0.0
    """For these, compiling aside."""
    compile_seconds: float = 0.0
    """For programs that this generation was the first to need."""
    first_token_seconds: float = 0.0
    """Until every prompt had its first new token, compiling included."""


@dataclass
class Completion:
    """What a prompt was continued with."""

    text: str = ""
    ids: list[int] = field(default_factory=list)
    """Every token generated, without a token that ended the text. Stop strings are in here, not in
    `text`."""
    logprobs: list[float] = field(default_factory=list)
    """Of each token, under the model's own distribution."""
    top_logprobs: list[list[tuple[int, float]]] = field(default_factory=list)
    """At each token: the most probable tokens and their log-probabilities, best first."""
    finish_reason: str = ""
    """"stop" (end of text or a stop string), "length" (`max_tokens`) or "context" (the model has no
    further positions)."""
    seed: int = 0
    """What draws the same tokens again."""

    def add(self, choice: Choice) -> None:
        """Appends a token; its text comes separately."""
        self.ids.append(choice.id)
        self.logprobs.append(choice.logprob)
        self.top_logprobs.append(choice.top)


class CompletionText:
    """The text of tokens up to a stop string.

    Text is held back while it may still become a stop string.
    """

    def __init__(self, stream: TextStream, stops: Sequence[str]) -> None:
        self._stream = stream
        self._stops = stops
        self._held = ""
        self.stopped = False

    def push(self, token_id: int) -> str:
        """The text that is certain now."""
        return self._release(self._stream.push(token_id), final=False)

    def finish(self) -> str:
        """The rest, when no more tokens come."""
        return "" if self.stopped else self._release(self._stream.finish(), final=True)

    def _release(self, text: str, *, final: bool) -> str:
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        self.stopped = bool(found)
        certain_length = len(self._held) - (0 if final else self._undecided())
        end = min(found, default=certain_length)
        certain, self._held = self._held[:end], self._held[end:]
        return certain

    def _undecided(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0
