"""The exercises of lesson 02: their points, tests, hints and forbidden names."""

from __future__ import annotations

from coursekit import quantization as reference
from coursekit.exercises.post_training import mistakes_bits as bits
from coursekit.exercises.post_training import mistakes_integers as integers
from coursekit.exercises.post_training import mistakes_ranges as ranges
from coursekit.exercises.post_training.properties import PUBLIC
from coursekit.exercises.spec import Exercise
from coursekit.quantization import integer, sensitivity

__all__ = ["EXERCISES"]

FORBIDDEN = {
    "ao": "torch.ao.quantization is what this lesson explains",
    "coursekit": "the reference is what you are writing",
}
FOLD_FORBIDDEN = {
    **FORBIDDEN,
    "fuse_conv_bn_weights": "write the arithmetic yourself",
    "fuse_conv_bn_eval": "write the arithmetic yourself",
    "fuse_linear_bn_weights": "write the arithmetic yourself",
}


EXERCISES = (
    Exercise(
        "moving_average_range", "02", 3, reference.moving_average_range,
        PUBLIC["moving_average_range"],
        (
            "Two numbers are all you need to remember between batches. What are they after the first batch?",
            "Take the minimum and the maximum of each batch as floats; the first pair is the start, every later pair "
            "moves it.",
            "The old value is weighted by momentum and the new one by what is left to 1, separately for lo and for hi. "
            "Do not start from 0.",
        ),
        ranges.MOVING_AVERAGE_RANGE, ranges.range_probes, FORBIDDEN, (reference.MovingAverageObserver,),
    ),
    Exercise(
        "fold_batch_norm", "02", 3, reference.fold_batch_norm,
        PUBLIC["fold_batch_norm"],
        (
            "Write the batch norm of y = W x + b as one factor times y plus one constant, and put y in.",
            "The factor of a channel is its weight over the root of (variance + eps). It multiplies all that comes "
            "from the convolution: W x, and b, from which the mean was taken.",
            "The weight's first dimension is the output channel, so bring the factor to (C, 1, 1, 1), or (C, 1) for a "
            "linear layer: as many ones as the weight has other dimensions. A missing bias counts as 0.",
        ),
        ranges.FOLD_BATCH_NORM, ranges.fold_probes, FOLD_FORBIDDEN, (reference.fold_batch_norms,),
    ),
    Exercise(
        "quantize_multiplier", "02", 3, integer.quantize_multiplier,
        PUBLIC["quantize_multiplier"],
        (
            "Every positive number is a fraction in 0.5..1 times a power of two. Python can split it.",
            "math.frexp(m) gives that fraction and the exponent. Scale the fraction so that it fills 31 bits.",
            "The fraction times 2**31 is rounded to the multiplier; the shift undoes the 31 and the exponent "
            "together. One case is left: a fraction that rounds up to 2**31 itself.",
        ),
        integers.QUANTIZE_MULTIPLIER, integers.multiplier_probes, FORBIDDEN,
        (integer.quantize_multipliers, integer.shared_multipliers),
    ),
    Exercise(
        "requantize", "02", 3, integer.requantize,
        PUBLIC["requantize"],
        (
            "Five steps in this order: multiply, add the half, shift, add the zero point, clamp and cast.",
            "The product needs 64 bits: make acc an int64 tensor first. A right shift of integers is >>.",
            "A right shift rounds down, also below 0. Adding half of what one step is worth before it, "
            "1 << (shift - 1), makes that the nearest.",
        ),
        integers.REQUANTIZE, integers.requantize_probes, FORBIDDEN,
    ),
    Exercise(
        "integer_linear", "02", 4, integer.integer_linear,
        PUBLIC["integer_linear"],
        (
            "A code means something only as its distance from the zero point. Weights have zero point 0.",
            "Make both codes int32 before you do anything with them: 127 - (-128) does not fit into int8, nor does a "
            "product.",
            "(q_x - zero point) times the transposed weight, plus the bias, is the accumulator. Then the steps of "
            "requantize, with the output's zero point.",
        ),
        integers.INTEGER_LINEAR, integers.linear_probes, FORBIDDEN, (integer.linear_accumulator,),
    ),
    Exercise(
        "layer_sensitivity", "02", 3, sensitivity.layer_sensitivity,
        PUBLIC["layer_sensitivity"],
        (
            "Score the network as it is once. Then, layer by layer: quantize, score, put back.",
            "copy.deepcopy(model) gives a network that you may change; get_parameter(name) its weight, which copy_ "
            "fills under torch.no_grad(). Keep a clone of what was there.",
            "The drop is the score before minus the score with this one layer quantized, sign and all. "
            "symmetric_scale_per_channel and fake_quantize quantize a weight.",
        ),
        bits.LAYER_SENSITIVITY, bits.sensitivity_probes, {"ao": FORBIDDEN["ao"]}, (sensitivity.sensitivity_table,),
    ),
    Exercise(
        "greedy_bits", "02", 3, sensitivity.greedy_bits,
        PUBLIC["greedy_bits"],
        (
            "Keep for each layer the number of the option it is at, all 0 at first. What decides which one moves?",
            "While the sizes of the options in use add up to more than the budget: price every possible move, take the "
            "cheapest.",
            "The price of a move is the loss it adds, new minus old, over the bytes it saves, old minus new. A layer "
            "at its last option has no move. Return bits, not option numbers.",
        ),
        bits.GREEDY_BITS, bits.bits_probes, FORBIDDEN,
    ),
)  # fmt: skip
