"""Every peer."""

from peers import Peer, ctranslate2, llama_cpp, onnxruntime, openvino, pytorch

PEERS: tuple[Peer, ...] = (
    pytorch.PEER,
    llama_cpp.PEER,
    ctranslate2.PEER,
    onnxruntime.PEER,
    openvino.PEER,
)
