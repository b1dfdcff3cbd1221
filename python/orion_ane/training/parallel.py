"""Processes that train together over MPI, or one alone."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from orion_ane._core import Error

T = TypeVar("T")

# How many processes the launchers of Open MPI, and of MPICH and its relatives, say they started.
_LAUNCHED = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


@dataclass(frozen=True)
class World:
    """This process among those that train together. Every method is called by all of them."""

    rank: int = 0
    ranks: int = 1
    communicator: Any = None
    """An MPI communicator, where there are several."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def sum_in_place(self, arrays: Iterable[NDArray[np.float32]]) -> None:
        """Each array becomes the sum over all processes."""
        if self.communicator is not None:
            in_place = importlib.import_module("mpi4py.MPI").IN_PLACE
            for array in arrays:
                self.communicator.Allreduce(in_place, array)

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """The sums over all processes, in double precision."""
        total = np.array(numbers, np.float64)
        if self.communicator is not None:
            total = self.communicator.allreduce(total)
        return [float(number) for number in total]

    def broadcast(self, arrays: Iterable[NDArray[np.float32]]) -> None:
        """Each array becomes the first process's."""
        if self.communicator is not None:
            for array in arrays:
                self.communicator.Bcast(array)

    def share(self, value: T) -> T:
        """The first process's value."""
        if self.communicator is None:
            return value
        shared: T = self.communicator.bcast(value)
        return shared

    def abort(self, code: int) -> None:
        """Ends all processes, since they would wait for this one for ever."""
        if self.communicator is not None:
            self.communicator.Abort(code)


def world() -> World:
    """The processes that mpirun started; Error if there are several and mpi4py is missing."""
    launched = next((os.environ[name] for name in _LAUNCHED if name in os.environ), "1")
    if launched == "1":
        return World()
    try:
        mpi = importlib.import_module("mpi4py.MPI")
    except ImportError as error:
        raise Error(
            f"one of {launched} processes of mpirun, which need mpi4py to train together: {error} "
            "(pip install 'orion-ane[mpi]')"
        ) from error
    everyone = mpi.COMM_WORLD
    return World(everyone.Get_rank(), everyone.Get_size(), everyone)
