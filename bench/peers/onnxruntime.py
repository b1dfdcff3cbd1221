"""ONNX Runtime on its CPU provider, fp32."""

from __future__ import annotations

import tempfile
from pathlib import Path

from orion_ane import _core
from orion_ane.bench.remote import Contender

from peers import Peer
from peers.onnx_export import Array, CachedDecoder, export


def make(path: str) -> CachedDecoder:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = _core.thread_count()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.onnx")
        export(path, file)
        session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(given: dict[str, Array]) -> dict[str, Array]:
        return dict(zip(names, session.run(names, given), strict=True))

    return CachedDecoder(path, run)


def decoders(path: str) -> list[Contender]:
    return [Contender("onnxruntime fp32", make, (path,), weight_bytes=4)]


PEER = Peer(
    "ONNX Runtime",
    ("onnxruntime", "onnxscript", "torch", "transformers"),
    "pip install onnxruntime onnxscript torch transformers",
    decoders,
)
