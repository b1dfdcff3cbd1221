"""Where a model runs: the engine or the CPU, and why not the engine."""

from __future__ import annotations

from dataclasses import dataclass

from orion_ane import _core
from orion_ane._core import Error

POLICIES = ("require", "prefer", "never")
DECODES = ("engine", "cpu")


@dataclass(frozen=True)
class Placement:
    """A decision, made once when a model is loaded."""

    device: str
    """"cpu", "ane", "sim:PROFILE", with options as `find_device` takes them."""
    on_engine: bool
    why_not: str = ""
    """Why not the engine, where it was not chosen."""


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
        return Placement("cpu", on_engine=False, why_not="policy 'never'")
    if device == "auto" and policy is None:
        return Placement("cpu", on_engine=False, why_not="it runs when asked for: device 'ane'")
    wanted = "ane" if device == "auto" else device
    try:
        _core.engine_info(wanted)
    except _core.DeviceError as error:
        if policy != "prefer":
            raise
        return Placement("cpu", on_engine=False, why_not=str(error))
    return Placement(wanted, on_engine=True)
