"""A training step of a Stories110M-shaped Llama or GPT-2 124M, beside PyTorch where installed.

    python bench/training.py [--model stories-110m|gpt2-124m|DIR ...] [--only NAME ...] [--batch 1]
                             [--sequence 256] [--accumulate 1] [--rounds 5] [--threads N] [--json F]

A step is forward, backward, clipping and AdamW (PyTorch's fused one). All contenders start from the
same weights and read the same random tokens, taking turns, each alone in a process of its own, so
that its peak memory can be told; medians are told. The loss difference is the largest from our fp32
at the same step. `orion bench training` is the same without peers.
"""

from __future__ import annotations

from orion_ane import checkpoint
from orion_ane.bench import models, training
from peers import guests, present
from peers.table import PEERS
from script import Script

REFERENCE = "pytorch fp32"


def main() -> None:
    shape = {"batch": 1, "sequence": None, "accumulate": 1}
    script = Script(__doc__, ["stories-110m"], shape)
    options = script.options
    peers = present(PEERS)
    for name in options.model:
        with models.model_at(name) as path:
            config = checkpoint.read_config(path)
            lesson = training.lesson_for(
                config,
                quick=options.quick,
                batch=options.batch,
                sequence=options.sequence,
                accumulate=options.accumulate,
            )
            contenders = training.our_contenders(path, "cpu", lesson)
            contenders += [c for peer in peers for c in guests(peer.learners(str(path), lesson))]
            rows, parts, script.report.ceiling = training.compete(
                name,
                config,
                script.chosen(contenders),
                lesson,
                options.rounds,
            )
        script.add(rows, REFERENCE)
        for contender, times in parts.items():
            if times:
                told = ", ".join(f"{part} {ms:.0f}" for part, ms in times.items())
                print(f"{contender}, ms: {told}")
    script.finish()


if __name__ == "__main__":
    main()
