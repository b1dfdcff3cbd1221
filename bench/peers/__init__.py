"""Other engines on the same models: one file each, with one `PEER`.

A peer reads a Hugging Face directory with fp32 weights and makes contenders of it, which take turns
with ours, each in a process of its own (`orion_ane.bench.remote`). Decoders are as
`orion_ane.bench.inference.Decoder` says, learners as `orion_ane.bench.training.Learner`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace

from orion_ane.bench.remote import Contender
from orion_ane.bench.training import Lesson


@dataclass(frozen=True)
class Peer:
    """Another engine."""

    name: str
    needs: tuple[str, ...]
    """Modules."""
    install: str
    decoders: Callable[[str], list[Contender]]
    """Of a model's directory."""
    learners: Callable[[str, Lesson], list[Contender]] = lambda _path, _lesson: []

    @property
    def missing(self) -> list[str]:
        """Modules that are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


def guests(contenders: list[Contender]) -> list[Contender]:
    """The same; a race goes on without one that fails."""
    return [replace(contender, may_leave=True) for contender in contenders]


def present(every: tuple[Peer, ...]) -> list[Peer]:
    """Those that are installed; says how to install the others."""
    for peer in every:
        if peer.missing:
            print(f"{peer.name} is left out, {', '.join(peer.missing)} missing: {peer.install}")
    return [peer for peer in every if not peer.missing]
