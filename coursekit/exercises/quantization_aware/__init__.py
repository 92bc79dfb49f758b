"""The exercises of lesson 03: their points, tests, hints and forbidden names."""

from __future__ import annotations

from coursekit import quantization as reference
from coursekit.exercises.quantization_aware import mistakes_ranges as ranges
from coursekit.exercises.quantization_aware import mistakes_rounding as rounding
from coursekit.exercises.quantization_aware.properties import PUBLIC
from coursekit.exercises.spec import Exercise

__all__ = ["EXERCISES"]

FORBIDDEN = {
    "fake_quantize_per_tensor_affine": "write the arithmetic yourself",
    "fake_quantize_per_channel_affine": "write the arithmetic yourself",
    "ao": "torch.ao.quantization is what this lesson explains",
    "coursekit": "the reference is what you are writing",
    "cq": "the reference is what you are writing",
}
WITHHELD = (
    reference.FakeQuantize, reference.fake_quantize_ste, reference.LearnedStep, reference.learned_step_quantize,
)  # fmt: skip


EXERCISES = (
    Exercise(
        "fake_quantize_affine", "03", 2, reference.fake_quantize_affine,
        PUBLIC["fake_quantize_affine"],
        (
            "It is quantize and dequantize of lesson 01 in a row, with one step fewer: what is int8 good for here?",
            "Divide, round, add the zero point, clamp. Then the way back, which has two steps.",
            "int_range(n_bits) gives both ends for torch.clamp. On the way back, subtract the zero point first, then "
            "multiply: no cast to an integer type anywhere.",
        ),
        rounding.FAKE_QUANTIZE, rounding.fake_probes, FORBIDDEN, WITHHELD,
    ),
    Exercise(
        "ste_gradient", "03", 3, reference.ste_gradient,
        PUBLIC["ste_gradient"],
        (
            "Two cases: either the value was inside the range and round is taken for the identity, or it was clamped.",
            "Which code would x get if nothing were clamped? Compare that with qmin and qmax.",
            "A boolean mask, (codes >= qmin) & (codes <= qmax), tells where the gradient passes. Everywhere else it is "
            "0; the scale appears in the mask only.",
        ),
        rounding.STE_GRADIENT, rounding.ste_probes, FORBIDDEN, WITHHELD,
    ),
    Exercise(
        "qat_step", "03", 4, reference.qat_step,
        PUBLIC["qat_step"],
        (
            "There are two weights: the one the layer computes with, and the one that is kept. Which takes part in the "
            "forward pass, and which takes the step?",
            "For a mean of squares over all N * M outputs, the gradient by the weight in use is 2 / (N * M) times "
            "errors, transposed, times inputs.",
            "Outputs come from fake_quantize(weight, scale, n_bits). The gradient for the kept weight is that of the "
            "used one, times a mask of weights whose code lies within -qmax..qmax.",
        ),
        rounding.QAT_STEP, rounding.step_probes, {k: v for k, v in FORBIDDEN.items() if k not in ("coursekit", "cq")},
        WITHHELD,
    ),
    Exercise(
        "lsq_step_gradient", "03", 3, reference.lsq_step_gradient,
        PUBLIC["lsq_step_gradient"],
        (
            "The output is s * round(x / s) inside the range and s * qmax or -s * qmax outside. Differentiate by s, "
            "with round as the identity where you differentiate it.",
            "Inside, the product rule gives round(v) + s * (-x / s**2) with v = x / s. What is left?",
            "torch.where chooses between round(v) - v and sign(v) * qmax. Multiply with grad, sum, divide by the "
            "square root of x.numel() * qmax, and return a Python float.",
        ),
        ranges.LSQ, ranges.lsq_probes, FORBIDDEN, WITHHELD,
    ),
    Exercise(
        "equalization_scale", "03", 3, reference.equalization_scale,
        PUBLIC["equalization_scale"],
        (
            "Call the ranges r1 and r2. After rescaling they are r1 / s and r2 * s, and shall be equal: solve for s.",
            "Channel i is row i of the first weight, whatever its shape, and weight2[:, i] in the second.",
            "flatten(1) makes a matrix of any weight; transpose(0, 1) brings the second layer's input channels to the "
            "front. Where a range is 0, torch.where puts a 1.",
        ),
        ranges.EQUALIZATION, ranges.equalization_probes, FORBIDDEN,
    ),
    Exercise(
        "bias_correction", "03", 2, reference.bias_correction,
        PUBLIC["bias_correction"],
        (
            "A layer's mean output is its weight times its mean input, plus its bias. What did rounding change?",
            "The shift of output m is the sum over k of the weight's error [m, k] times the mean of input k.",
            "Matrix times vector does that sum: @. The bias must take away exactly the shift.",
        ),
        ranges.BIAS_CORRECTION, ranges.correction_probes, FORBIDDEN,
    ),
)  # fmt: skip
