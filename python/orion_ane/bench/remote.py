"""Contenders in processes of their own: no memory or threads of one change what another shows."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import tqdm

from orion_ane._core import Error
from orion_ane.bench.timing import seconds_of
from orion_ane.process_memory import peak_memory

T = TypeVar("T")


@dataclass(frozen=True)
class Contender:
    """What takes part in a comparison."""

    name: str
    make: Callable[..., Any]
    """Called in the contender's own process."""
    arguments: tuple[Any, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the contender's process."""
    weight_bytes: float | None = None
    """Bytes of a weight; None where nobody knows."""
    products: str = "fp32"
    """What its products of many rows multiply: fp32, bf16 or int8."""
    on_cpu: bool = True
    """Whether the processor does the work, so that its ceiling holds."""
    may_leave: bool = False
    """Whether a race goes on without it when it fails."""


class Race:
    """Contenders, each alone in a process, which take turns.

    One that may leave does so when it fails, and the race says why and goes on without it; any
    other's failure ends the race.
    """

    def __init__(self, contenders: Sequence[Contender]) -> None:
        self._contenders = contenders
        self._remotes: dict[str, Remote] = {}
        self._bar = _bar()

    def __enter__(self) -> Race:
        with contextlib.ExitStack() as started:
            started.push(self)
            for c in self._contenders:
                with self._leaving(c):
                    self._remotes[c.name] = Remote(c.name, c.make, c.arguments, c.env)
            started.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for remote in self._remotes.values():
            remote.close()

    @property
    def contenders(self) -> list[Contender]:
        """Those that have not left."""
        return [c for c in self._contenders if c.name in self._remotes]

    def each(self, run: Callable[[Remote], T]) -> dict[str, T]:
        """What `run` gives for each contender, one after the other, by name."""
        found: dict[str, T] = {}
        for contender in self.contenders:
            name = contender.name
            self._bar.set_postfix_str(name)
            with self._leaving(contender):
                found[name] = run(self._remotes[name])
            self._bar.update()
        return found

    def turns(self, rounds: int, title: str) -> Iterator[int]:
        """Turn 0, to warm up, and as many more; a terminal shows whose turn it is."""
        total = (rounds + 1) * len(self._remotes)
        with _bar(total=total, desc=title) as self._bar:
            yield from range(rounds + 1)
        self._bar = _bar()

    @contextlib.contextmanager
    def _leaving(self, contender: Contender) -> Iterator[None]:
        try:
            yield
        except Error as error:
            if not contender.may_leave:
                raise
            tqdm.tqdm.write(f"left out: {error}")
            if remote := self._remotes.pop(contender.name, None):
                remote.close()


def _bar(**shown: Any) -> tqdm.tqdm[Any]:
    """None is seen without a terminal, or if nothing is said that it shows."""
    return tqdm.tqdm(unit="turn", disable=None if shown else True, leave=False, **shown)


_WAIT = 10.0
"""Seconds for a process to end by itself."""


class Remote:
    """What `make(*arguments)` gives, made and used in another process."""

    def __init__(
        self,
        name: str,
        make: Callable[..., Any],
        arguments: Sequence[Any],
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other, make, tuple(arguments), dict(env or {})), daemon=True
        )
        self._process.start()
        other.close()
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, method: str, *arguments: Any) -> Any:
        """The result of a method; Error if it fails there."""
        return self._ask((method, arguments, False))

    def time(self, method: str, *arguments: Any) -> float:
        """Seconds that a method takes there."""
        return float(self._ask((method, arguments, True)))

    def peak_memory(self) -> int:
        """The most bytes the process has had so far."""
        return int(self._ask(None))

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join(_WAIT)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()

    def _ask(self, what: Any) -> Any:
        with contextlib.suppress(OSError):  # of a process that has ended: the answer says how
            self._pipe.send(what)
        return self._answer()

    def _answer(self) -> Any:
        try:
            good, answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(_WAIT)
            raise Error(f"{self.name}: its process ended with {self._end()}") from None
        if not good:
            raise Error(f"{self.name}: {answer}")
        return answer

    def _end(self) -> str:
        status = self._process.exitcode
        if status is None or status >= 0:
            return f"status {status}"
        return f"signal {signal.Signals(-status).name}"


def _serve(
    pipe: Connection, make: Callable[..., Any], arguments: tuple[Any, ...], env: dict[str, str]
) -> None:
    """Does what is asked until nobody asks any more."""
    os.environ.update(env)
    served = _attempt(pipe, lambda: make(*arguments), tell=False)
    while True:
        try:
            asked = pipe.recv()
        except EOFError:
            return
        if asked is None:
            _attempt(pipe, peak_memory)
            continue
        method, given, timed = asked
        run = getattr(served, method)
        _attempt(pipe, lambda: seconds_of(lambda: run(*given)) if timed else run(*given))  # noqa: B023


def _attempt(pipe: Connection, run: Callable[[], Any], *, tell: bool = True) -> Any:
    """Sends the result, or what went wrong."""
    try:
        result = run()
    except Exception as error:
        pipe.send((False, f"{type(error).__name__}: {error}"))
        return None
    pipe.send((True, result if tell else None))
    return result
