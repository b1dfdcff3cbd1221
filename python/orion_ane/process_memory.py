"""Memory of this process."""

from __future__ import annotations

import mmap
import re
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STATUS = Path("/proc/self/status")


def peak_memory() -> int:
    """The most bytes this process has had in memory since its program began."""
    # On Linux getrusage counts what the process was before, too: a copy of its parent.
    if _STATUS.exists():
        found = re.search(r"^VmHWM:\s*(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
        if found is not None:
            return int(found[1]) * 1024
    # The kernel counts in KiB, except macOS's, which counts bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def release_pages(array: NDArray[Any]) -> None:
    """Gives back the memory of a dense array that lies in a file mapped for reading. What is read
    again comes from the file again; any other array stays as it is.
    """
    mapping: object = array
    while isinstance(mapping, np.ndarray):
        mapping = mapping.base
    if not isinstance(mapping, mmap.mmap) or not memoryview(mapping).readonly:
        return
    begin = array.ctypes.data - np.frombuffer(mapping, np.uint8).ctypes.data
    page = begin // mmap.PAGESIZE * mmap.PAGESIZE
    mapping.madvise(mmap.MADV_DONTNEED, page, begin + array.nbytes - page)
