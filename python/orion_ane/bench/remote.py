"""Contenders in processes of their own: no memory or threads of one change what another shows."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import tqdm

from orion_ane._core import Error
from orion_ane.bench.timing import seconds_of
from orion_ane.process_memory import peak_memory


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


@contextlib.contextmanager
def running(contenders: Sequence[Contender]) -> Iterator[dict[str, Remote]]:
    """All of them by name, each alone in a process."""
    with contextlib.ExitStack() as stack:
        yield {
            c.name: stack.enter_context(Remote(c.name, c.make, c.arguments, c.env))
            for c in contenders
        }


def turns(
    remotes: Mapping[str, Remote], rounds: int, title: str
) -> Iterator[tuple[int, Iterator[tuple[str, Remote]]]]:
    """Round 0, to warm up, and as many more, each with all contenders in turn. A terminal shows
    whose turn it is.
    """
    total = (rounds + 1) * len(remotes)
    with tqdm.tqdm(total=total, desc=title, unit="turn", disable=None, leave=False) as bar:

        def shown() -> Iterator[tuple[str, Remote]]:
            for name, remote in remotes.items():
                bar.set_postfix_str(name)
                yield name, remote
                bar.update()

        for turn in range(rounds + 1):
            yield turn, shown()


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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def call(self, method: str, *arguments: Any) -> Any:
        """The result of a method; Error if it fails there."""
        self._pipe.send((method, arguments, False))
        return self._answer()

    def time(self, method: str, *arguments: Any) -> float:
        """Seconds that a method takes there."""
        self._pipe.send((method, arguments, True))
        return float(self._answer())

    def peak_memory(self) -> int:
        """The most bytes the process has had so far."""
        self._pipe.send(None)
        return int(self._answer())

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join(_WAIT)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()

    def _answer(self) -> Any:
        try:
            good, answer = self._pipe.recv()
        except EOFError:
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
