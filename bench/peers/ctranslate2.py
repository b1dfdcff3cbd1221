"""CTranslate2, fp32 and int8."""

from __future__ import annotations

import tempfile
import time

import numpy as np
from orion_ane import _core
from orion_ane.bench.inference import Logits
from orion_ane.bench.remote import Contender

from peers import Peer, pytorch


class CTranslate2Decoder:
    def __init__(self, path: str, compute: str) -> None:
        import ctranslate2
        from ctranslate2.converters import transformers as converters

        model = pytorch.load(path)
        loader = {
            "gpt2": converters.GPT2Loader,
            "llama": converters.LlamaLoader,
        }[model.config.model_type]()
        spec = loader.get_model_spec(model)
        spec.register_vocabulary([str(i) for i in range(model.config.vocab_size)])
        spec.config.unk_token = spec.config.bos_token = spec.config.eos_token = "0"
        if model.config.model_type == "llama":
            spec.config.layer_norm_epsilon = model.config.rms_norm_eps
        with tempfile.TemporaryDirectory() as folder:
            spec.validate()
            spec.optimize(quantization=None if compute == "float32" else compute)
            spec.save(folder)
            self.generator = ctranslate2.Generator(
                folder,
                device="cpu",
                compute_type=compute,
                inter_threads=1,
                intra_threads=_core.thread_count(),
            )

    def logits(self, ids: list[int]) -> Logits:
        out = self.generator.forward_batch([[str(i) for i in ids]])
        return np.asarray(out)[0].astype(np.float32)

    def prefill(self, ids: list[int]) -> None:
        self._generate(ids, 1)

    def decode(self, ids: list[int], count: int) -> float:
        start = time.perf_counter()
        self._generate(ids, 1)
        first = time.perf_counter()
        self._generate(ids, count + 1)
        return time.perf_counter() - first - (first - start)

    def _generate(self, ids: list[int], count: int) -> None:
        self.generator.generate_batch(
            [[str(i) for i in ids]],
            max_length=count,
            min_length=count,
            sampling_topk=1,
            include_prompt_in_result=False,
        )


def decoders(path: str) -> list[Contender]:
    return [
        Contender(
            f"ctranslate2 {short}",
            CTranslate2Decoder,
            (path, compute),
            weight_bytes=width,
            products=short,
        )
        for short, compute, width in (("fp32", "float32", 4), ("int8", "int8", 1))
    ]


PEER = Peer(
    "CTranslate2",
    ("ctranslate2", "torch", "transformers"),
    "pip install ctranslate2 torch transformers",
    decoders,
)
