"""Prompts and text of GPT-2 124M (or other shapes), beside every peer that is installed.

    python bench/inference.py [--model gpt2-124m|stories-110m|DIR ...] [--only NAME ...]
                              [--rounds 5] [--threads N] [--json FILE]

Every contender reads the same 512-token prompt and writes 64 tokens after 32, taking turns, each
alone in a process of its own; medians are told. Random weights: speed does not depend on them. The
logit error is the largest difference from our fp32 logits over the prompt. `orion bench inference`
is the same without peers.
"""

from __future__ import annotations

from orion_ane import checkpoint
from orion_ane.bench import inference, models
from peers import guests, present
from peers.table import PEERS
from script import Script

REFERENCE = "pytorch fp32"


def main() -> None:
    script = Script(__doc__, ["gpt2-124m"])
    options = script.options
    peers = present(PEERS)
    for name in options.model:
        with models.model_at(name) as path:
            text = inference.text_for(checkpoint.read_config(path), quick=options.quick)
            contenders = inference.our_contenders(path, "cpu")
            contenders += [c for peer in peers for c in guests(peer.decoders(str(path)))]
            logits = inference.reference_logits(path, text)
            chosen = script.chosen(contenders)
            rows, script.report.ceiling = inference.compete(
                name, chosen, text, options.rounds, logits
            )
        script.add(rows, REFERENCE)
    script.finish()


if __name__ == "__main__":
    main()
