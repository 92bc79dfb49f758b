"""The public tests of lesson 02: each states a property of a right solution."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit import fixtures
from coursekit.exercises.expect import expect, expect_close, expect_float, expect_int, expect_tensor
from coursekit.exercises.spec import Fixture, Test, TestFunction, as_test, worth
from coursekit.quantization import fake_quantize, symmetric_scale_per_channel

__all__ = [
    "PUBLIC",
    "expect_bits",
    "expect_drops",
    "expect_fold",
    "expect_multiplier",
    "expect_range",
    "scan",
]


def expect_range(got: Any, lo: float, hi: float, what: str) -> None:
    """The two ends of a range, as Python floats."""
    expect(isinstance(got, tuple) and len(got) == 2, f"{what}: not a pair (lo, hi)", got, (lo, hi))
    expect_close(expect_float(got[0], "lo"), lo, f"lo of {what}", atol=1e-6)
    expect_close(expect_float(got[1], "hi"), hi, f"hi of {what}", atol=1e-6)


def test_first_batch_sets_the_range(student):
    """After one batch the range is that batch's own, on both sides of 0 or on one."""
    expect_range(
        student.moving_average_range([torch.tensor([-1.0, 0.0, 3.0])]), -1.0, 3.0, "one batch in -1..3"
    )
    expect_range(student.moving_average_range([torch.tensor([2.0, 5.0])], 0.5), 2.0, 5.0, "one batch in 2..5")


def test_new_batch_moves_the_average_by_its_share(student):
    """With momentum 0.9 a second batch moves both ends a tenth of the way to its own."""
    batches = [torch.tensor([-1.0, 2.0, 0.0]), torch.tensor([10.0, -3.0, 1.0])]
    expect_range(student.moving_average_range(batches, 0.9), -1.2, 2.8, "-1..2, then -3..10, at momentum 0.9")


def test_later_batches_weigh_by_momentum(student):
    """Three batches at momentum 0.5 weigh a quarter, a quarter and a half."""
    batches = [torch.tensor([-4.0, 4.0]), torch.tensor([-8.0, 0.0]), torch.tensor([-1.0, 2.0])]
    expect_range(student.moving_average_range(batches, 0.5), -3.5, 2.0, "-4..4, -8..0, -1..2 at momentum 0.5")


def expect_fold(
    student: Any, conv_weight: Tensor, conv_bias: Tensor | None, norm: list[Tensor], eps: float
) -> None:
    """Folded weight and bias do to an input what the layer and the batch norm do, in float64 by definition."""
    weight, bias = student.fold_batch_norm(conv_weight, conv_bias, *norm, eps)
    expect_tensor(weight, torch.float32, conv_weight.shape)
    expect_tensor(bias, torch.float32, (len(conv_weight),))
    mean, var, gamma, beta = (each.double() for each in norm)
    x = torch.randn(3, conv_weight.shape[1], 5, 5, generator=torch.Generator().manual_seed(5)).double()
    run: Any = F.conv2d
    if conv_weight.dim() == 2:
        run, x = F.linear, x[:, :, 0, 0]
    y = run(x, conv_weight.double(), None if conv_bias is None else conv_bias.double())
    shape = (1, -1, *[1] * (y.dim() - 2))
    expected = (y - mean.view(shape)) / (var.view(shape) + eps).sqrt() * gamma.view(shape) + beta.view(shape)
    got = run(x, weight.double(), bias.double())
    # float32 weights: each of the terms of a sum is off by at most one part in 2**22
    size = run(x.abs(), weight.double().abs(), bias.double().abs())
    worst = int(((got - expected).abs() - 1e-6 * size - 1e-5).argmax())
    close = bool(((got - expected).abs() <= 1e-6 * size + 1e-5).all())
    expect(close, "output of the folded layer", got.flatten()[worst].item(), expected.flatten()[worst].item())


def _norm(channels: int, seed: int) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    mean, gamma, beta = torch.randn(3, channels, generator=g)
    return [mean, torch.rand(channels, generator=g) + 0.2, gamma, beta]


def test_folding_by_hand(student):
    """Weight 1, mean 2, variance 4, gain 6, shift 1, no eps: 6 (x - 2) / 2 + 1 = 3 x - 5."""
    one = torch.ones(1)
    weight, bias = student.fold_batch_norm(torch.ones(1, 1), None, 2 * one, 4 * one, 6 * one, one, 0.0)
    expect_close(expect_tensor(weight, torch.float32, (1, 1)).item(), 3.0, "the folded weight")
    expect_close(expect_tensor(bias, torch.float32, (1,)).item(), -5.0, "the folded bias")


def test_folded_convolution_does_the_same(student):
    """A convolution without a bias, folded, gives the batch norm's output on any input."""
    weight = torch.randn(4, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    expect_fold(student, weight, None, _norm(4, 1), 1e-5)


def test_bias_of_the_convolution_goes_through_the_norm(student):
    """A convolution with a bias of its own, folded, gives the batch norm's output."""
    g = torch.Generator().manual_seed(2)
    expect_fold(student, torch.randn(3, 2, 3, 3, generator=g), torch.randn(3, generator=g), _norm(3, 3), 1e-3)


def test_eps_keeps_a_still_channel_tame(student):
    """A channel of variance 0.0001 with eps 0.01 is divided by the root of their sum, about 0.1."""
    one = torch.ones(2)
    var = torch.tensor([1e-4, 1.0])
    weight, _ = student.fold_batch_norm(torch.ones(2, 3), one, 0 * one, var, one, one, 0.01)
    expect_close(
        expect_tensor(weight, torch.float32, (2, 3))[:, 0], (var + 0.01).rsqrt(), "the folded weight"
    )


def expect_multiplier(got: Any, m: float) -> tuple[int, int]:
    """A multiplier of 31 bits and a shift that stand for m to half a unit of the multiplier."""
    expect(
        isinstance(got, tuple) and len(got) == 2, f"m = {m}: not a pair (multiplier, shift)", got, "two ints"
    )
    multiplier, shift = expect_int(got[0], "multiplier"), expect_int(got[1], "shift")
    expect(2**30 <= multiplier < 2**31, f"multiplier for m = {m:g}", multiplier, "2**30 to 2**31 - 1")
    off = abs(m * 2.0**shift - multiplier)
    expect(off <= 0.5, f"multiplier / 2**shift for m = {m:g}", multiplier * 2.0**-shift, m)
    return multiplier, shift


def test_multiplier_of_three_quarters(student):
    """0.75 is 0.75 * 2**31 = 1610612736 with a shift of 31."""
    got = expect_multiplier(student.quantize_multiplier(0.75), 0.75)
    expect(got == (1610612736, 31), "(multiplier, shift) for m = 0.75", got, (1610612736, 31))


def test_small_factors_keep_all_bits(student):
    """However small the factor is, the multiplier has its highest bit set, and the shift does the rest."""
    for m in (0.3, 0.0123, 3.3e-6):
        expect_multiplier(student.quantize_multiplier(m), m)


def test_powers_of_two_are_exact(student):
    """0.5, 0.25 and 2 ** -20 have the multiplier 2**30, which is 0.5 * 2**31."""
    for places in (1, 2, 20):
        got = student.quantize_multiplier(2.0**-places)
        expect(
            got == (2**30, 30 + places), f"(multiplier, shift) for 2**-{places}", got, (2**30, 30 + places)
        )


def test_fraction_that_rounds_up_to_one(student):
    """A factor a hair below a power of two still has a multiplier below 2**31."""
    expect_multiplier(student.quantize_multiplier(0.25 - 2.0**-45), 0.25 - 2.0**-45)


def _int32(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


def test_accumulator_is_scaled_and_rounded(student):
    """With multiplier 2**30 and shift 32, a quarter, every value goes to the nearest code; halves go up."""
    q = student.requantize(_int32(-31, -7, -6, -5, -3, -2, -1, 0, 1, 2, 3, 5, 6, 31), 2**30, 32)
    expected = torch.tensor([-8, -2, -1, -1, -1, 0, 0, 0, 0, 1, 1, 1, 2, 8])
    expect_close(expect_tensor(q, torch.int8, (14,)), expected, "code, a quarter of -31 … 31")


def test_zero_point_is_added_and_the_rest_saturates(student):
    """The zero point is added in steps of the output; what then lies outside 8 or 4 bits saturates."""
    acc = _int32(-4000, -400, -40, 0, 40, 400, 4000)
    q = expect_tensor(student.requantize(acc, 2**30, 32, 20), torch.int8, (7,))
    expect_close(q, torch.tensor([-128, -80, 10, 20, 30, 120, 127]), "code, a quarter, zero point 20")
    q = expect_tensor(student.requantize(acc, 2**30, 34, -3, 4), torch.int8, (7,))
    expect_close(q, torch.tensor([-8, -8, -5, -3, 0, 7, 7]), "code, a sixteenth, zero point -3, 4 bits")


def test_large_accumulators_do_not_wrap(student):
    """Accumulators of millions times a 31-bit multiplier are still right."""
    acc = _int32(-8_000_000, -1_000_000, 1_000_000, 8_000_000)
    q = expect_tensor(student.requantize(acc, 1_717_986_918, 47), torch.int8, (4,))  # 0.8 / 65536
    expect_close(q, torch.tensor([-98, -12, 12, 98]), "code")


def _codes(*shape: int, seed: int) -> Tensor:
    return torch.randint(-128, 128, shape, generator=torch.Generator().manual_seed(seed)).to(torch.int8)


def test_linear_layer_by_hand(student):
    """(10 + 4) * 2 + (-3 + 4) * 1 = 29 and (10 + 4) * -4 = -56, halved, halves up: 15 and -28."""
    q_x, q_w = torch.tensor([[10, -3]]).to(torch.int8), torch.tensor([[2, 1], [-4, 0]]).to(torch.int8)
    q = student.integer_linear(q_x, q_w, None, 2**30, 31, -4)
    expect_close(expect_tensor(q, torch.int8, (1, 2)), torch.tensor([[15, -28]]), "code")


@worth(2)
def test_layer_agrees_with_the_real_one(student):
    """The codes stand for the float layer's output, to within half a step of the output."""
    s_x, s_w, s_y, z_x, z_y = 0.02, 0.005, 0.11, -128, -70
    q_x, q_w = _codes(4, 30, seed=0), _codes(6, 30, seed=1)
    bias = torch.linspace(-3.0, 3.0, 6)
    q_bias = torch.round(bias / (s_x * s_w)).to(torch.int32)
    multiplier = round(s_x * s_w / s_y * 2**41)  # 31 bits
    q = expect_tensor(student.integer_linear(q_x, q_w, q_bias, multiplier, 41, z_x, z_y), torch.int8, (4, 6))
    y = (s_x * (q_x.double() - z_x)) @ (s_w * q_w.double()).T + q_bias * s_x * s_w
    code = (y / s_y + z_y).clamp(-128, 127)
    worst = int((q.double() - code).abs().argmax())
    close = bool(((q.double() - code).abs() <= 0.5001).all())
    expect(close, "code", q.flatten()[worst].item(), f"within half a step of {code.flatten()[worst]:.2f}")


def test_long_sums_do_not_overflow(student):
    """A thousand products of the largest codes fit: the accumulator has 32 bits."""
    q_x, q_w = torch.full((1, 1000), 127).to(torch.int8), torch.full((1, 1000), 127).to(torch.int8)
    q = student.integer_linear(q_x, q_w, _int32(127_000), 2**30, 48, -128)  # (255 * 127000 + 127000) / 2**18
    expect_close(
        expect_tensor(q, torch.int8, (1, 1)), torch.tensor([[124]]), "code of a sum of 1,000 products"
    )


def scan(network: Any, score: Any, names: list[str], n_bits: int) -> dict[str, float]:
    """The drops by definition: a new network for every layer."""
    expected = {}
    for name in names:
        model = network()
        weight = model.get_parameter(name)
        weight.data = fake_quantize(weight.data, symmetric_scale_per_channel(weight.data, n_bits), n_bits)
        expected[name] = score(network()) - score(model)
    return expected


def expect_drops(got: Any, expected: dict[str, float], what: str) -> None:
    """A dict from the right names to the right floats."""
    expect(isinstance(got, dict), f"{what}: not a dict", got, "weight name to drop")
    expect(
        set(got) == set(expected),
        f"{what}: the names are wrong",
        ", ".join(map(str, got)),
        ", ".join(expected),
    )
    for name, drop in expected.items():
        expect_close(
            expect_float(got[name], f"drop of {name}"), drop, f"drop of {name}, {what}", rtol=1e-3, atol=1e-5
        )


CONVNET = ["0.weight", "3.weight", "6.weight"]


def _convnet_drops(seed: int, n_bits: int) -> dict[str, float]:
    return scan(lambda: fixtures.make("ptq.convnet", seed), fixtures.make("ptq.score", seed), CONVNET, n_bits)


@worth(2)
def test_drop_is_this_layers_own(student):
    """At 3 bits each drop is that of the network in which this layer alone is quantized."""
    got = student.layer_sensitivity(Fixture("ptq.convnet", (1,)), Fixture("ptq.score", (1,)), 3)
    expect_drops(got, _convnet_drops(1, 3), "at 3 bits")


def test_bits_are_used_in_the_scan(student):
    """At 4 bits the drops are those of 4 bits."""
    got = student.layer_sensitivity(Fixture("ptq.convnet", (2,)), Fixture("ptq.score", (2,)), 4)
    expect_drops(got, _convnet_drops(2, 4), "at 4 bits")


def test_scanned_network_is_unchanged(student):
    """After the scan the network's tensors are what they were, and the drops are there."""
    network = student.make("ptq.convnet", 3)
    got = student.layer_sensitivity(network, student.make("ptq.score", 3), 2)
    expect(isinstance(got, dict) and set(got) == set(CONVNET), "the result", got, "a drop for each weight")
    before = fixtures.make("networks.state", fixtures.make("ptq.convnet", 3))
    for name, tensor in student.make("networks.state", network).items():
        expect_close(tensor, before[name], f"{name} after the scan")


def expect_bits(got: Any, expected: dict[str, int], what: str) -> None:
    """A dict from layer to bits."""
    expect(isinstance(got, dict), f"bits for {what}: not a dict", got, "layer to bits")
    expect({**got} == expected, f"bits for {what}", str(got), str(expected))


def test_ample_budget_keeps_all_bits(student):
    """A budget that the finest options just meet changes nothing."""
    losses, sizes = {"a": [0.0, 1.0], "b": [0.0, 2.0]}, {"a": [8, 4], "b": [16, 8]}
    expect_bits(student.greedy_bits(losses, sizes, 24, (8, 4)), {"a": 8, "b": 8}, "a budget of 24")


def test_cheapest_byte_is_saved_first(student):
    """b's move adds more loss than a's, but less for each byte it saves."""
    losses, sizes = {"a": [0.0, 1.0], "b": [0.0, 1.5]}, {"a": [8, 4], "b": [16, 8]}
    expect_bits(student.greedy_bits(losses, sizes, 20, (8, 4)), {"a": 8, "b": 4}, "a budget of 20")


def test_moves_are_priced_by_what_they_add(student):
    """Step by step: prices are per byte saved, of the loss added, and taken anew after each move."""
    losses = {"a": [0.0, 0.1, 0.9, 3.0], "b": [0.05, 0.3, 0.5, 8.0], "c": [5.02, 5.7, 5.75, 5.8]}
    sizes = {"a": [80, 40, 30, 20], "b": [160, 80, 60, 40], "c": [320, 160, 120, 80]}
    # prices, per 1000 bytes: a 2.5, 80, 210; b 3.1, 10, 375; c 4.25, 1.25, 1.25
    for budget, bits in ((520, (4, 8, 8)), (440, (4, 4, 8)), (280, (4, 4, 4)), (240, (4, 4, 3)), (200, (4, 4, 2)),
                         (180, (4, 3, 2)), (170, (3, 3, 2))):  # fmt: skip
        expected = dict(zip("abc", bits, strict=True))
        expect_bits(student.greedy_bits(losses, sizes, budget), expected, f"a budget of {budget}")


def _tests(*functions: TestFunction) -> tuple[Test, ...]:
    return tuple(as_test(function, public=True) for function in functions)


PUBLIC = {
    "moving_average_range": _tests(
        test_first_batch_sets_the_range,
        test_new_batch_moves_the_average_by_its_share,
        test_later_batches_weigh_by_momentum,
    ),
    "fold_batch_norm": _tests(
        test_folding_by_hand,
        test_folded_convolution_does_the_same,
        test_bias_of_the_convolution_goes_through_the_norm,
        test_eps_keeps_a_still_channel_tame,
    ),
    "quantize_multiplier": _tests(
        test_multiplier_of_three_quarters,
        test_small_factors_keep_all_bits,
        test_powers_of_two_are_exact,
        test_fraction_that_rounds_up_to_one,
    ),
    "requantize": _tests(
        test_accumulator_is_scaled_and_rounded,
        test_zero_point_is_added_and_the_rest_saturates,
        test_large_accumulators_do_not_wrap,
    ),
    "integer_linear": _tests(
        test_linear_layer_by_hand,
        test_layer_agrees_with_the_real_one,
        test_long_sums_do_not_overflow,
    ),
    "layer_sensitivity": _tests(
        test_drop_is_this_layers_own,
        test_bits_are_used_in_the_scan,
        test_scanned_network_is_unchanged,
    ),
    "greedy_bits": _tests(
        test_ample_budget_keeps_all_bits,
        test_cheapest_byte_is_saved_first,
        test_moves_are_priced_by_what_they_add,
    ),
}
