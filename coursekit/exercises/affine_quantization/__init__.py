"""The exercises of lesson 01: their points, tests, hints and forbidden names."""

from __future__ import annotations

from coursekit import quantization as reference
from coursekit.exercises.affine_quantization import mistakes_codes as codes
from coursekit.exercises.affine_quantization import mistakes_errors as errors
from coursekit.exercises.affine_quantization import mistakes_scales as scales
from coursekit.exercises.affine_quantization.properties import PUBLIC
from coursekit.exercises.spec import Exercise
from coursekit.measure import sqnr_db

__all__ = ["EXERCISES"]

FORBIDDEN = {
    "quantize_per_tensor": "write the arithmetic yourself",
    "quantize_per_channel": "write the arithmetic yourself",
    "fake_quantize_per_tensor_affine": "write the arithmetic yourself",
    "fake_quantize_per_channel_affine": "write the arithmetic yourself",
    "ao": "torch.ao.quantization is what this lesson explains",
    "coursekit": "the reference is what you are writing",
}


EXERCISES = (
    Exercise(
        "affine_qparams", "01", 4, reference.affine_qparams,
        PUBLIC["affine_qparams"],
        (
            "Do it on paper first, for x in 5..6: which end of the range has to move, and where to? And for -6..-5?",
            "n codes have n - 1 steps between them. The zero point is where 0 falls when lo falls on qmin: count "
            "the steps from lo up to 0.",
            "The steps from lo to 0 are -lo / scale. Add them to qmin and round to an int. A range of width 0 only "
            "comes from a tensor of zeros: any positive scale will do.",
        ),
        scales.AFFINE_QPARAMS, scales.qparams_probes, FORBIDDEN,
    ),
    Exercise(
        "quantize", "01", 3, reference.quantize,
        PUBLIC["quantize"],
        (
            "Four steps in this order: to units of one step, to whole numbers, to the zero point, into the range.",
            "torch.round, torch.clamp and .to(torch.int8) are all you need. Which of them must come last?",
            "A cast of what does not fit is undefined: here 200 becomes -56. Everything must be inside qmin..qmax "
            "before you cast, and int_range(n_bits) says what these are.",
        ),
        codes.QUANTIZE, codes.quantize_probes, FORBIDDEN,
    ),
    Exercise(
        "dequantize", "01", 3, reference.dequantize,
        PUBLIC["dequantize"],
        (
            "Undo the steps of quantize, in the opposite order. Rounding cannot be undone.",
            "Which number must you take away from a code so that the zero point itself becomes 0?",
            "An int8 holds -128..127. What is 127 - (-128), and does it fit? Change the dtype before you subtract.",
        ),
        codes.DEQUANTIZE, codes.dequantize_probes, FORBIDDEN,
    ),
    Exercise(
        "symmetric_scale", "01", 2, reference.symmetric_scale,
        PUBLIC["symmetric_scale"],
        (
            "With the zero point fixed at 0, only one number about x matters. Which?",
            "The largest magnitude should land on qmax: how long is one step then?",
            "It is the maximum of |x|, not of x, and it is divided by 127 for 8 bits. Mind the tensor of zeros.",
        ),
        scales.SYMMETRIC_SCALE, scales.symmetric_probes, FORBIDDEN,
    ),
    Exercise(
        "symmetric_scale_per_channel", "01", 3, reference.symmetric_scale_per_channel,
        PUBLIC["symmetric_scale_per_channel"],
        (
            "Take the maximum over every dimension except the channels'.",
            "Tensor.amax accepts a tuple of dimensions, and keepdim=True keeps them with size 1.",
            "Make the tuple from range(weight.dim()), leaving out axis. For channels of zeros, torch.where(scale > 0, "
            "scale, 1.0) replaces only what must be replaced.",
        ),
        scales.PER_CHANNEL, scales.per_channel_probes, FORBIDDEN,
    ),
    Exercise(
        "sqnr_db", "01", 2, sqnr_db,
        PUBLIC["sqnr_db"],
        (
            "A ratio of two powers: the signal's over the error's. Power is a sum of squares.",
            "Decibels are 10 * log10 of a ratio of powers.",
            "Sum the squares of x and of x - x_hat, take both out with .item(), return math.inf if the second is 0.",
        ),
        errors.SQNR_DB, errors.sqnr_probes, FORBIDDEN,
    ),
    Exercise(
        "mse_clip", "01", 3, reference.mse_clip,
        PUBLIC["mse_clip"],
        (
            "There is no formula to find: try n_candidates thresholds and keep the best.",
            "For each candidate c: scale = c / qmax, a round trip with fake_quantize, the mean squared error. "
            "Against which tensor must you measure it?",
            "The error is always measured against the unclipped x, or cutting everything off would look free. The "
            "candidates are max|x| * k / n_candidates for k = 1 .. n_candidates.",
        ),
        errors.MSE_CLIP, errors.clip_probes, {k: v for k, v in FORBIDDEN.items() if k != "coursekit"},
    ),
)  # fmt: skip
