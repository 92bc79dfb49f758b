"""Distillation: a small network learns from a large one, and what that is worth beside learning alone."""

from coursekit.distillation.cache import teacher_key, teacher_outputs
from coursekit.distillation.checkpoint import CheckpointError, DistillationHistory
from coursekit.distillation.loop import distill
from coursekit.distillation.objective import Batch, Objective, StudentAlone, Weighted
from coursekit.distillation.store import DamagedFileError

__all__ = [
    "Batch",
    "CheckpointError",
    "DamagedFileError",
    "DistillationHistory",
    "Objective",
    "StudentAlone",
    "Weighted",
    "distill",
    "teacher_key",
    "teacher_outputs",
]
