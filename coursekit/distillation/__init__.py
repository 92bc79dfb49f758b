"""Distillation: a small network learns from a large one, and what that is worth beside learning alone."""

from coursekit.distillation.confidence import (
    Reliability,
    best_temperature,
    confidences,
    entropy,
    expected_calibration_error,
    fit_temperature,
    reliability,
)
from coursekit.distillation.ensembles import Ensemble, ensemble_probabilities, ensemble_weights
from coursekit.distillation.mutual import learn_mutually, mutual_losses, mutual_step, peer_loss, train_peers
from coursekit.distillation.objective import Batch, Objective, StudentAlone, Weighted

__all__ = [
    "Batch",
    "Ensemble",
    "Objective",
    "Reliability",
    "StudentAlone",
    "Weighted",
    "best_temperature",
    "confidences",
    "ensemble_probabilities",
    "ensemble_weights",
    "entropy",
    "expected_calibration_error",
    "fit_temperature",
    "learn_mutually",
    "mutual_losses",
    "mutual_step",
    "peer_loss",
    "reliability",
    "train_peers",
]
