"""Train and run language models on Apple's Neural Engine, and the same programs on any CPU.

import orion_ane as orion

m = orion.load("stories260K")
print(m.generate("Once upon a time", max_tokens=64))
"""

from orion_ane import ane, data, mil, ops, training, weights
from orion_ane._core import (
    DeviceError,
    Error,
    Graph,
    Program,
    Value,
    __version__,
    compile,  # noqa: A004  (the name PyTorch taught everyone)
    device_names,
)
from orion_ane.model import Model, load
from orion_ane.package import compile_model
from orion_ane.training import Lora, Trainer

__all__ = [
    "DeviceError",
    "Error",
    "Graph",
    "Lora",
    "Model",
    "Program",
    "Trainer",
    "Value",
    "__version__",
    "ane",
    "compile",
    "compile_model",
    "data",
    "device_names",
    "load",
    "mil",
    "ops",
    "training",
    "weights",
]
