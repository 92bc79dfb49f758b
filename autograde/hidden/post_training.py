"""Hidden tests of lesson 02. Each states a property and checks it by definition, not against the reference."""

from __future__ import annotations

import math
from fractions import Fraction

import torch

from coursekit import fixtures
from coursekit.exercises.expect import expect, expect_close, expect_float, expect_tensor
from coursekit.exercises.post_training.properties import (
    expect_bits,
    expect_drops,
    expect_fold,
    expect_multiplier,
    expect_range,
    scan,
)
from coursekit.exercises.spec import Fixture, as_test, worth

__all__ = ["HIDDEN"]


def _generator(seed):
    return torch.Generator().manual_seed(seed)


def test_no_momentum_is_the_last_batch(student):
    """With momentum 0 nothing of the old average is left."""
    batches = [torch.tensor([-9.0, 9.0]), torch.tensor([0.25, 1.5])]
    expect_range(student.moving_average_range(batches, 0.0), 0.25, 1.5, "momentum 0")


def test_weights_of_many_batches(student):
    """Of n batches the k-th weighs (1 - m) m^(n - k), the first m^(n - 1), whatever their shapes."""
    batches = [torch.randn(3, 2 + k % 3, 4, generator=_generator(k)) + 1 for k in range(12)]
    m, n = 0.8, len(batches)
    weights = [m ** (n - 1), *((1 - m) * m ** (n - k) for k in range(2, n + 1))]
    lo, hi = (
        math.fsum(w * f(b.flatten().tolist()) for w, b in zip(weights, batches, strict=True))
        for f in (min, max)
    )
    expect_range(student.moving_average_range(batches, m), lo, hi, "12 batches at momentum 0.8")


def test_outlier_is_forgotten(student):
    """One batch with 1,000 in it moves hi by a tenth of that, and twenty batches later by 0.9**20 of it."""
    calm, wild = torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1000.0])
    _, hi = student.moving_average_range([calm, wild, *[calm] * 20])
    expect_close(
        expect_float(hi, "hi"), 1 + 0.1 * 999 * 0.9**20, "hi, 20 batches after one with 1,000", rtol=1e-4
    )


def test_depthwise_convolution(student):
    """A depthwise weight (C, 1, K, K) and a linear one (C, K) fold along dimension 0."""
    g = _generator(7)
    for shape in ((5, 1, 3, 3), (5, 5)):
        weight = torch.randn(*shape, generator=g)
        mean, gamma, beta, bias = torch.randn(4, 5, generator=g)
        var = torch.rand(5, generator=g) + 0.1
        folded, shift = student.fold_batch_norm(weight, bias, mean, var, gamma, beta, 1e-5)
        gain = [c / math.sqrt(v + 1e-5) for c, v in zip(gamma.tolist(), var.tolist(), strict=True)]
        expected = torch.stack([w * k for w, k in zip(weight, gain, strict=True)])
        expect_close(expect_tensor(folded, torch.float32, shape), expected, "the folded weight", rtol=1e-4)
        expected = (bias - mean) * torch.tensor(gain) + beta
        expect_close(
            expect_tensor(shift, torch.float32, (5,)), expected, "the folded bias", rtol=1e-4, atol=1e-5
        )


def test_gains_of_both_signs(student):
    """Gains below 0, as training leaves some, fold like the others; so does a channel that is switched off."""
    g = _generator(8)
    gamma = torch.tensor([-1.5, 0.0, 0.7, -0.2])
    norm = [torch.randn(4, generator=g), torch.rand(4, generator=g) + 0.1, gamma, torch.randn(4, generator=g)]
    expect_fold(student, torch.randn(4, 3, 2, 2, generator=g), torch.randn(4, generator=g), norm, 1e-3)


def test_factors_above_one(student):
    """Factors above 1, such as where the output is finer than the accumulator, work the same way."""
    for m in (1.0, 1.7, 5.25, 900.0):
        expect_multiplier(student.quantize_multiplier(m), m)


def test_no_factor_is_off_by_more_than_its_last_bit(student):
    """Of 200 factors over eight orders of magnitude none is off by more than half a unit of its multiplier."""
    for exponent in torch.linspace(-8.0, 0.0, 200, dtype=torch.float64).tolist():
        m = 10.0**exponent * 0.99
        multiplier, shift = expect_multiplier(student.quantize_multiplier(m), m)
        off = abs(Fraction(multiplier) / Fraction(2) ** shift / Fraction(m) - 1)
        expect(off <= Fraction(1, 2**31), f"relative error for m = {m:g}", float(off), "at most 2**-31")


def _rounded(acc, multiplier, shift):
    """The nearest integer to acc * multiplier / 2**shift, halves up, in exact arithmetic."""
    return math.floor(Fraction(acc * multiplier, 2**shift) + Fraction(1, 2))


def test_random_accumulators(student):
    """For 300 random accumulators of up to 30 bits the code is the nearest, by exact arithmetic."""
    acc = torch.randint(-(2**30), 2**30, (300,), generator=_generator(1), dtype=torch.int32)
    multiplier, shift = 1_234_567_891, 54
    q = expect_tensor(student.requantize(acc, multiplier, shift, 9), torch.int8, (300,))
    expected = [max(-128, min(127, _rounded(a, multiplier, shift) + 9)) for a in acc.tolist()]
    expect_close(q, torch.tensor(expected), "code")


def test_a_multiplier_for_each_channel(student):
    """Multipliers and shifts of shape (C, 1, 1) rescale each channel of (N, C, H, W) by its own factor."""
    acc = torch.randint(-40_000, 40_000, (2, 3, 2, 2), generator=_generator(2), dtype=torch.int32)
    multipliers, shifts = [2**30, 2**31 - 1, 1_500_000_000], [39, 40, 41]
    q = student.requantize(
        acc, torch.tensor(multipliers)[:, None, None], torch.tensor(shifts)[:, None, None], -4
    )
    q = expect_tensor(q, torch.int8, acc.shape)
    for c, (m, s) in enumerate(zip(multipliers, shifts, strict=True)):
        expected = [max(-128, min(127, _rounded(a, m, s) - 4)) for a in acc[:, c].flatten().tolist()]
        expect_close(q[:, c].flatten(), torch.tensor(expected), f"code of channel {c}")


def test_every_number_of_output_bits(student):
    """For 2 to 8 bits the ends of the range are -2**(b - 1) and 2**(b - 1) - 1."""
    acc = torch.tensor([-(2**20), 2**20], dtype=torch.int32)
    for b in range(2, 9):
        q = expect_tensor(student.requantize(acc, 2**30, 32, 0, b), torch.int8, (2,))
        expect_close(q, torch.tensor([-(2 ** (b - 1)), 2 ** (b - 1) - 1]), f"the ends at {b} bits")


def _slow_linear(q_x, q_w, q_bias, multipliers, shifts, z_x, z_y):
    """The codes in Python's own integers, one at a time."""
    rows = []
    for x in q_x.tolist():
        row = []
        for w, b, m, s in zip(q_w.tolist(), q_bias, multipliers, shifts, strict=True):
            acc = sum((a - z_x) * c for a, c in zip(x, w, strict=True)) + b
            row.append(max(-128, min(127, _rounded(acc, m, s) + z_y)))
        rows.append(row)
    return torch.tensor(rows)


def _codes(*shape, seed):
    return torch.randint(-128, 128, shape, generator=_generator(seed)).to(torch.int8)


@worth(2)
def test_random_layers_code_for_code(student):
    """Random layers with every kind of zero point give the codes of exact integer arithmetic."""
    for seed, (z_x, z_y) in enumerate(((-128, -128), (127, 0), (0, 127), (-7, 33))):
        q_x, q_w = _codes(3, 17, seed=seed), _codes(4, 17, seed=seed + 50)
        bias = torch.tensor([5000, -77, 0, 12_345], dtype=torch.int32)
        q = student.integer_linear(q_x, q_w, bias, 1_111_111_111, 41, z_x, z_y)
        expected = _slow_linear(q_x, q_w, bias.tolist(), [1_111_111_111] * 4, [41] * 4, z_x, z_y)
        expect_close(expect_tensor(q, torch.int8, (3, 4)), expected, f"code for zero points {z_x} and {z_y}")


def test_channels_and_no_bias(student):
    """A multiplier and a shift for each output work, and so does a layer without a bias."""
    q_x, q_w = _codes(2, 9, seed=9), _codes(3, 9, seed=10)
    multipliers, shifts = [2**30, 2**31 - 1, 1_600_000_000], [38, 40, 39]
    q = student.integer_linear(q_x, q_w, None, torch.tensor(multipliers), torch.tensor(shifts), 12, -5)
    expected = _slow_linear(q_x, q_w, [0, 0, 0], multipliers, shifts, 12, -5)
    expect_close(expect_tensor(q, torch.int8, (2, 3)), expected, "code")


def test_batch_of_one_and_none(student):
    """A batch of one row has one row of codes, and an empty batch none."""
    q_w = _codes(3, 4, seed=11)
    q = student.integer_linear(_codes(1, 4, seed=12), q_w, None, 2**30, 38)
    expect_tensor(q, torch.int8, (1, 3))
    expect_tensor(student.integer_linear(_codes(0, 4, seed=12), q_w, None, 2**30, 38), torch.int8, (0, 3))


MLP = ("networks.mlp", (4, 6, 8, 3))


def _mlp_drops(n_bits):
    names = ["0.weight", "2.weight"]
    return scan(lambda: fixtures.make(*_flat(MLP)), fixtures.make("ptq.score_of_mlp", *MLP[1]), names, n_bits)


def _flat(fixture):
    return (fixture[0], *fixture[1])


def test_scan_of_another_network(student):
    """A network of linear layers is scanned the same way, at 2 bits."""
    got = student.layer_sensitivity(Fixture(*MLP), Fixture("ptq.score_of_mlp", MLP[1]), 2)
    expect_drops(got, _mlp_drops(2), "linear layers at 2 bits")


def test_small_drops_keep_their_sign(student):
    """At 6 bits, where chance may raise the score, every drop is as it came out, also below 0."""
    for seed in (5, 6):
        got = student.layer_sensitivity(Fixture("ptq.convnet", (seed,)), Fixture("ptq.score", (seed,)), 6)
        names = ["0.weight", "3.weight", "6.weight"]
        network, score = (
            (lambda seed=seed: fixtures.make("ptq.convnet", seed)),
            fixtures.make("ptq.score", seed),
        )
        expect_drops(got, scan(network, score, names, 6), "at 6 bits")


def _slow_greedy(losses, sizes, budget, bits):
    """The moves one by one, as the statement says them."""
    at = dict.fromkeys(losses, 0)
    while sum(sizes[name][at[name]] for name in at) > budget:
        cheapest, mover = math.inf, ""
        for name, i in at.items():
            if i + 1 == len(bits):
                continue
            price = Fraction(losses[name][i + 1] - losses[name][i]) / (sizes[name][i] - sizes[name][i + 1])
            if price < cheapest:
                cheapest, mover = price, name
        at[mover] += 1
    return {name: bits[i] for name, i in at.items()}


def _tables(n_layers, seed, options=4):
    g = _generator(seed)
    steps = torch.rand(n_layers, options, generator=g).double().pow(2).cumsum(1)
    weights = torch.randint(50, 4000, (n_layers,), generator=g).tolist()
    losses = {f"layer{i}": row for i, row in enumerate(steps.tolist())}
    return losses, {f"layer{i}": [8 * n, 4 * n, 3 * n, 2 * n][:options] for i, n in enumerate(weights)}


def test_a_network_of_many_layers(student):
    """With 22 layers every budget from loose to tight gives the moves of the statement."""
    losses, sizes = _tables(22, 0)
    full = sum(size[0] for size in sizes.values())
    for share in (0.9, 0.6, 0.4, 0.27):
        expected = _slow_greedy(losses, sizes, int(full * share), (8, 4, 3, 2))
        expect_bits(
            student.greedy_bits(losses, sizes, int(full * share)), expected, f"{share:.0%} of the bytes"
        )


def test_other_options(student):
    """The options may be others, here 6 and 5 bits, or three of them."""
    losses, sizes = {"a": [0.0, 0.3], "b": [0.0, 0.4]}, {"a": [60, 50], "b": [120, 100]}
    expect_bits(student.greedy_bits(losses, sizes, 170, (6, 5)), {"a": 6, "b": 5}, "6 or 5 bits")
    losses, sizes = _tables(5, 3, options=3)
    budget = sum(size[0] for size in sizes.values()) // 2
    expect_bits(student.greedy_bits(losses, sizes, budget, (7, 5, 4)),
                _slow_greedy(losses, sizes, budget, (7, 5, 4)), "7, 5 or 4 bits")  # fmt: skip


def test_a_move_that_lowers_the_loss(student):
    """A move that lowers the loss has a price below 0 and comes first."""
    losses, sizes = {"a": [0.0, 0.0], "b": [0.2, 0.1], "c": [0.0, 0.1]}, {n: [8, 4] for n in "abc"}
    expect_bits(student.greedy_bits(losses, sizes, 20, (8, 4)), {"a": 8, "b": 4, "c": 8}, "a budget of 20")


def _tests(*functions):
    return tuple(as_test(function, public=False) for function in functions)


HIDDEN = {
    "moving_average_range": _tests(
        test_no_momentum_is_the_last_batch, test_weights_of_many_batches, test_outlier_is_forgotten
    ),
    "fold_batch_norm": _tests(test_depthwise_convolution, test_gains_of_both_signs),
    "quantize_multiplier": _tests(test_factors_above_one, test_no_factor_is_off_by_more_than_its_last_bit),
    "requantize": _tests(
        test_random_accumulators, test_a_multiplier_for_each_channel, test_every_number_of_output_bits
    ),
    "integer_linear": _tests(
        test_random_layers_code_for_code, test_channels_and_no_bias, test_batch_of_one_and_none
    ),
    "layer_sensitivity": _tests(test_scan_of_another_network, test_small_drops_keep_their_sign),
    "greedy_bits": _tests(
        test_a_network_of_many_layers, test_other_options, test_a_move_that_lowers_the_loss
    ),
}
