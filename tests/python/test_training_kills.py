"""kill -9 at random moments loses nothing: the run ends as if nothing had happened.

ORION_KILLS=50 kills more often.
"""

import os
import subprocess
import sys
from pathlib import Path

from killed_run import STEPS_PER_KILL
from orion_ane.training import metrics
from training_samples import assert_same, files_of, run

KILLS = int(os.environ.get("ORION_KILLS", "10"))


def test_a_killed_run_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    steps = STEPS_PER_KILL * KILLS + 1
    script = Path(__file__).with_name("killed_run.py")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OPENBLAS_NUM_THREADS": "1",  # it forks, and must have no threads then
    }
    subprocess.run(
        [sys.executable, str(script), str(tmp_path / "killed"), str(KILLS)],
        env=environment,
        check=True,
        timeout=600,
    )
    run(tmp_path / "whole", steps=steps).train()
    assert_same(files_of(tmp_path / "killed", steps), files_of(tmp_path / "whole", steps))
    lines = metrics.read(tmp_path / "killed" / metrics.METRICS)
    taken = [line["step"] for line in lines if line["event"] == "step"]
    assert taken == list(range(1, steps + 1))
    names = sorted(entry.name for entry in (tmp_path / "killed").iterdir())
    assert names == ["metrics.jsonl", f"step-{steps - 1:08d}", f"step-{steps:08d}"]
