"""The exercises of lesson 04: their points, tests, hints and forbidden names."""

from __future__ import annotations

from coursekit import quantization as reference
from coursekit.exercises.reduced_precision import mistakes_bits as bits
from coursekit.exercises.reduced_precision import mistakes_training as training
from coursekit.exercises.reduced_precision.properties import PUBLIC
from coursekit.exercises.spec import Exercise

__all__ = ["EXERCISES"]

FORBIDDEN = {"coursekit": "the reference is what you are writing"}
BY_HAND = FORBIDDEN | {
    "clip_grad_norm_": "write the clipping yourself",
    "clip_grads_with_norm_": "write the clipping yourself",
    "GradScaler": "its parts are what you are writing",
    "_amp_foreach_non_finite_check_and_unscale_": "write the arithmetic yourself",
    "_amp_update_scale_": "write the rule yourself",
}

EXERCISES = (
    Exercise(
        "float_bits", "04", 2, reference.float_bits, PUBLIC["float_bits"],
        (
            "x.view(torch.int16) reads the same 16 bits as an integer. What do you have to do so that a set sign bit "
            "does not make it negative?",
            "Take the integers to int64 and keep the low 16 or 32 bits with &. Then >> moves a field to the right end, "
            "and & with 2^width - 1 cuts off what is to its left.",
            "From the right: fraction (m bits), exponent (e bits), sign. The sign is what is left after shifting by "
            "e + m, the exponent is shifted by m and masked, the fraction is masked only.",
        ),
        bits.FLOAT_BITS, bits.bits_probes, FORBIDDEN, (reference.bit_string,),
    ),
    Exercise(
        "value_from_bits", "04", 3, reference.value_from_bits, PUBLIC["value_from_bits"],
        (
            "Write down the three cases: exponent 0, exponent at its highest, all others. torch.where chooses.",
            "Exponent 0 differs in two ways: there is no hidden 1, and the power of 2 is that of exponent 1.",
            "A significand (exponent > 0) + fraction / 2^m and an exponent clamped to at least 1 do the first and the "
            "last case at once. For the highest exponent, choose between inf and nan by fraction == 0. The sign comes "
            "last.",
        ),
        bits.VALUE_FROM_BITS, bits.value_probes, FORBIDDEN,
    ),
    Exercise(
        "round_to_format", "04", 4, reference.round_to_format, PUBLIC["round_to_format"],
        (
            "It is quantization with a step of its own for every number: x / step, round, times step. How long is "
            "the step for a number between 2^k and 2^(k+1)?",
            "torch.frexp gives |x| as mantissa * 2^power with a mantissa in 0.5..1, so k is power - 1. The step is "
            "2^(k - m). At which k must it stop getting smaller?",
            "Clamp k to at least 1 - bias. Compute in float64, which can hold every such step. After rounding, what is "
            "larger than (2 - 2^-m) * 2^bias becomes inf with the sign of x; put back what was not finite before.",
        ),
        bits.ROUND_TO_FORMAT, bits.rounding_probes, FORBIDDEN,
    ),
    Exercise(
        "unscale_and_clip", "04", 3, reference.unscale_and_clip, PUBLIC["unscale_and_clip"],
        (
            "Three things in this order: to true size, look for overflow, shorten. In which dtype must the first be "
            "done?",
            "The norm of several tensors is the root of the sum of the squares of all their elements. isfinite is "
            "False for inf and for NaN.",
            "grad.to(torch.float32) / scale for each. If any element of any is not finite, return them and True. Else "
            "multiply all by one factor, max_norm over the norm where the norm is longer.",
        ),
        training.UNSCALE_AND_CLIP, training.clip_probes, BY_HAND,
    ),
    Exercise(
        "loss_scale_step", "04", 3, reference.loss_scale_step, PUBLIC["loss_scale_step"],
        (
            "Three cases: the step overflowed; it was good and completes the interval; it was just good.",
            "good_steps counts the good steps before this one. In two of the three cases the count becomes 0.",
            "Does this step make the count equal to growth_interval? Then the scale grows, and the count starts anew.",
        ),
        training.LOSS_SCALE_STEP, training.scale_probes, BY_HAND,
    ),
    Exercise(
        "master_weight_update", "04", 3, reference.master_weight_update, PUBLIC["master_weight_update"],
        (
            "Only one of the two tensors remembers small steps. Which one must the gradient be subtracted from?",
            "lr * grad may be too small for the dtype of grad: bring grad to float32 first.",
            "Of the 16-bit weight you need nothing but its dtype: the new weight is the new master, rounded.",
        ),
        training.MASTER_WEIGHT_UPDATE, training.master_probes, BY_HAND,
    ),
)  # fmt: skip
