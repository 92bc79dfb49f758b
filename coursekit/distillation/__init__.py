"""Distillation: a small network learns from a large one, and what that is worth beside learning alone."""

from coursekit.distillation.attention import AttentionTransfer, attention_loss, attention_map, pair_layers
from coursekit.distillation.cache import teacher_key, teacher_outputs
from coursekit.distillation.checkpoint import CheckpointError, DistillationHistory
from coursekit.distillation.confidence import (
    Reliability,
    best_temperature,
    confidences,
    entropy,
    expected_calibration_error,
    fit_temperature,
    reliability,
)
from coursekit.distillation.correction import missing_class_bias
from coursekit.distillation.decoupled import DecoupledDistillationLoss, decoupled_kl
from coursekit.distillation.ensembles import Ensemble, ensemble_probabilities, ensemble_weights
from coursekit.distillation.epoch import distill_epoch
from coursekit.distillation.hints import Hints, hint_loss, hint_stage, match_size
from coursekit.distillation.hooks import capture, capture_features, feature_shapes
from coursekit.distillation.layers import measured_layers
from coursekit.distillation.loop import distill
from coursekit.distillation.losses import (
    DistillationLoss,
    distillation_kl,
    kd_gradient,
    kd_loss,
    smooth_targets,
    soften,
)
from coursekit.distillation.measured import distillation_curves
from coursekit.distillation.mutual import learn_mutually, mutual_losses, mutual_step, peer_loss, train_peers
from coursekit.distillation.objective import Batch, Objective, StudentAlone, Weighted
from coursekit.distillation.progressive import (
    Stage,
    assistant_stages,
    plan_chain,
    run_stages,
    softening_stages,
)
from coursekit.distillation.relational import (
    Relational,
    relational_angle_loss,
    relational_angles,
    relational_distance_loss,
    relational_distances,
)
from coursekit.distillation.store import DamagedFileError

__all__ = [
    "AttentionTransfer",
    "Batch",
    "CheckpointError",
    "DamagedFileError",
    "DecoupledDistillationLoss",
    "DistillationHistory",
    "DistillationLoss",
    "Ensemble",
    "Hints",
    "Objective",
    "Relational",
    "Reliability",
    "Stage",
    "StudentAlone",
    "Weighted",
    "assistant_stages",
    "attention_loss",
    "attention_map",
    "best_temperature",
    "capture",
    "capture_features",
    "confidences",
    "decoupled_kl",
    "distill",
    "distill_epoch",
    "distillation_curves",
    "distillation_kl",
    "ensemble_probabilities",
    "ensemble_weights",
    "entropy",
    "expected_calibration_error",
    "feature_shapes",
    "fit_temperature",
    "hint_loss",
    "hint_stage",
    "kd_gradient",
    "kd_loss",
    "learn_mutually",
    "match_size",
    "measured_layers",
    "missing_class_bias",
    "mutual_losses",
    "mutual_step",
    "pair_layers",
    "peer_loss",
    "plan_chain",
    "relational_angle_loss",
    "relational_angles",
    "relational_distance_loss",
    "relational_distances",
    "reliability",
    "run_stages",
    "smooth_targets",
    "soften",
    "softening_stages",
    "teacher_key",
    "teacher_outputs",
    "train_peers",
]
