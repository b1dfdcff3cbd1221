"""Where a model runs: the engine or the CPU, and why not the engine."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from orion_ane import _core
from orion_ane._core import DeviceError, Error

POLICIES = ("require", "prefer", "never")
DTYPES = ("fp32", "fp16", "bf16", "int8", "int4")
"""How the weights of a model may be kept; on the engine fp16."""
DECODES = ("engine", "cpu")
HEADS = ("host", "engine")


@dataclass(frozen=True)
class Placement:
    """A decision, made once when a model is loaded."""

    device: str
    """"cpu", "ane", "sim:PROFILE", with options as `find_device` takes them."""
    on_engine: bool
    why_not: str = ""
    """Why not the engine, where it was not chosen."""
    fell_back: bool = False
    """Whether the engine was preferred and is not there."""
    decode: str = "engine"
    head: str = "host"

    @property
    def use(self) -> str:
        """What an EngineModel does on its engine."""
        if self.decode == "cpu":
            return "engine-prefill"
        return "engine-and-head" if self.head == "engine" else "engine"

    @property
    def decode_device(self) -> str:
        """Where the tokens after a prompt are read."""
        return self.device if self.decode == "engine" else "cpu"

    @property
    def head_device(self) -> str:
        """Where logits are computed."""
        return self.device if self.head == "engine" else "cpu"


def place_model(device: str, policy: str | None, decode: str, head: str) -> Placement:
    """`place` with the parts of a language model, which need not all be on the engine."""
    if decode not in DECODES:
        raise Error(f"decode {decode!r}: one of {', '.join(DECODES)} is needed")
    if head not in HEADS:
        raise Error(f"head {head!r}: one of {', '.join(HEADS)} is needed")
    if head == "engine" and decode == "cpu":
        raise Error("head 'engine': with decode 'cpu' the CPU computes the logits")
    if head == "engine" and (device == "cpu" or (device == "auto" and policy is None)):
        raise Error("head 'engine' needs an engine: device 'ane' or 'sim:PROFILE'")
    return replace(place(device, policy), decode=decode, head=head)


def place(device: str, policy: str | None) -> Placement:
    """Decides by device and policy; Error if the policy is "require" and there is no engine.

    Without a policy a device that is named is required, and "auto" is the CPU: the engine runs when
    it is asked for.
    """
    if policy not in (None, *POLICIES):
        raise Error(f"policy {policy!r}: one of {', '.join(POLICIES)} is needed")
    if device == "cpu" and policy == "require":
        raise Error("policy 'require' asks for the engine, device 'cpu' for the CPU")
    if device == "cpu":
        return Placement("cpu", on_engine=False, why_not="the CPU was asked for")
    if policy == "never":
        if re.split("[:,]", device)[0] not in ("auto", "ane"):
            _core.engine_info(device)  # Error for a name that stands for nothing
        return Placement("cpu", on_engine=False, why_not="policy 'never'")
    if device == "auto" and policy is None:
        return Placement("cpu", on_engine=False, why_not="not asked for (device 'ane')")
    wanted = "ane" if device == "auto" else device
    try:
        _core.engine_info(wanted)
    except DeviceError as error:
        if policy != "prefer":
            raise DeviceError(
                f"device '{wanted}': {error} (policy 'prefer' runs on the CPU instead)"
            ) from error
        return Placement("cpu", on_engine=False, why_not=str(error), fell_back=True)
    return Placement(wanted, on_engine=True)
