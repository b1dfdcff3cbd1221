"""Training: `Trainer`, its settings, and what it reports. See docs/training.md."""

from orion_ane.training.checkpoints import DamagedCheckpointWarning
from orion_ane.training.evaluation import evaluate
from orion_ane.training.interruption import Interrupted
from orion_ane.training.metrics import Evaluation, Saved, Step
from orion_ane.training.settings import Lora, Settings
from orion_ane.training.trainer import Trainer

__all__ = [
    "DamagedCheckpointWarning",
    "Evaluation",
    "Interrupted",
    "Lora",
    "Saved",
    "Settings",
    "Step",
    "Trainer",
    "evaluate",
]
