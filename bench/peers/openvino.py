"""OpenVINO's CPU plugin, in fp32 and in bf16 where the processor has it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from orion_ane import _core
from orion_ane.bench.remote import Contender

from peers import Peer
from peers.onnx_export import Array, CachedDecoder, export


def make(path: str, precision: str) -> CachedDecoder:
    import openvino as ov

    core = ov.Core()
    core.set_property(
        "CPU",
        {
            "INFERENCE_NUM_THREADS": _core.thread_count(),
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
        },
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.onnx")
        export(path, file)
        compiled = core.compile_model(core.read_model(file), "CPU")
    request = compiled.create_infer_request()

    def run(given: dict[str, Array]) -> dict[str, Array]:
        result = request.infer(given, share_inputs=True)
        return {port.any_name: result[port].copy() for port in compiled.outputs}

    return CachedDecoder(path, run)


def decoders(path: str) -> list[Contender]:
    return [
        Contender(f"openvino {short}", make, (path, precision), weight_bytes=width, products=short)
        for short, precision, width in (("fp32", "f32", 4), ("bf16", "bf16", 2))
    ]


PEER = Peer(
    "OpenVINO",
    ("openvino", "onnxscript", "torch", "transformers"),
    "pip install openvino onnxscript torch transformers",
    decoders,
)
