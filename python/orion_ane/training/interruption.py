"""Signals that ask a run to end: it finishes its step and saves first."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

_NAMES = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A run ended early, in good order, because a signal asked for it."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + number
        """What shells report of a process that died of the signal."""


class SignalWatch:
    """While it is open SIGINT and SIGTERM are noted; a second SIGINT interrupts at once.

    Only a process's main thread can do that. In any other thread signals stay as they are.
    """

    def __init__(self) -> None:
        self.number = 0
        """Of the signal that came, or 0."""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> SignalWatch:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _NAMES}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = self.number or number
