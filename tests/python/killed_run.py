"""A training run that is killed again and again: killed_run.py OUT KILLS [SEED].

Each child goes on from the newest checkpoint and saves every step. It is killed at a random moment
of its next steps: while it computes, writes, or renames. A child that is through before its kill
comes waits for it.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

from orion_ane.training import checkpoints
from training_samples import run

STEPS_PER_KILL = 3


def main(out: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    steps = STEPS_PER_KILL * kills + 1
    for _ in range(kills):
        begun = last_step(out)
        child = start(out, steps, then_wait=True)
        wanted = min(steps, begun + chance.randrange(STEPS_PER_KILL))
        while last_step(out) < wanted:
            time.sleep(0.001)
        time.sleep(chance.random() * 0.03)
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert os.waitstatus_to_exitcode(os.waitpid(start(out, steps), 0)[1]) == 0


def last_step(out: Path) -> int:
    return max(checkpoints.steps(out), default=0)


def start(out: Path, steps: int, then_wait: bool = False) -> int:
    """A child that trains; this process itself starts no threads before."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        trainer = run(out, steps=steps, save_every=1, keep_last=2)
        trainer.resume()
        trainer.train()
        if then_wait:
            signal.pause()
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
