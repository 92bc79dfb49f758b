"""Known mistakes in scanning for sensitive layers and in choosing bits to a budget."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from coursekit.exercises.spec import Fixture, Mistake
from coursekit.quantization import fake_quantize, symmetric_scale, symmetric_scale_per_channel, weight_names

__all__ = ["GREEDY_BITS", "LAYER_SENSITIVITY", "bits_probes", "sensitivity_probes"]

Args = tuple[Any, ...]
Score = Callable[[nn.Module], float]
Losses = dict[str, list[float]]
Sizes = dict[str, list[int]]


def sensitivity_probes() -> list[Args]:
    """A convolutional network at 3 bits and at 5."""
    return [(Fixture("ptq.convnet", (0,)), Fixture("ptq.score", (0,)), bits) for bits in (3, 5)]


def _round_trip(weight: Tensor, n_bits: int) -> Tensor:
    return fake_quantize(weight, symmetric_scale_per_channel(weight, n_bits), n_bits)


def _scores(
    model: nn.Module, score: Score, n_bits: int, names: list[str], *,
    round_trip: Callable[[Tensor, int], Tensor] = _round_trip, restore: bool = True, others: bool = False,
) -> dict[str, float]:  # fmt: skip
    """The score with each named parameter quantized: alone, with all before it, or all but it."""
    trial, scores = copy.deepcopy(model), {}
    with torch.no_grad():
        for name in names:
            for each in set(names) - {name} if others else {name}:
                parameter = trial.get_parameter(each)
                parameter.copy_(round_trip(parameter.clone(), n_bits))
            scores[name] = score(trial)
            if restore:
                trial = copy.deepcopy(model)
    return scores


def _drops(scores: dict[str, float], before: float) -> dict[str, float]:
    return {name: before - after for name, after in scores.items()}


def _scan(**options: Any) -> Callable[..., dict[str, float]]:
    def layer_sensitivity(model: nn.Module, score: Score, n_bits: int = 8) -> dict[str, float]:
        return _drops(_scores(model, score, n_bits, weight_names(model), **options), score(model))

    return layer_sensitivity


def _then(change: Callable[[float, float], float]) -> Callable[..., dict[str, float]]:
    """The right scan, with its result made of the score before and after in another way."""

    def layer_sensitivity(model: nn.Module, score: Score, n_bits: int = 8) -> dict[str, float]:
        before = score(model)
        scores = _scores(model, score, n_bits, weight_names(model))
        return {name: change(before, after) for name, after in scores.items()}

    return layer_sensitivity


def _to_the_last(model: nn.Module, score: Score, n_bits: int = 8) -> dict[str, float]:
    drops, before = {}, score(model)
    for name, after in _scores(model, score, n_bits, weight_names(model)).items():
        drops[name], before = before - after, after
    return drops


def _all_parameters(model: nn.Module, score: Score, n_bits: int = 8) -> dict[str, float]:
    names = [name for name, _ in model.named_parameters()]
    return _drops(_scores(model, score, n_bits, names), score(model))


def _some(*kinds: type[nn.Module]) -> Callable[..., dict[str, float]]:
    def layer_sensitivity(model: nn.Module, score: Score, n_bits: int = 8) -> dict[str, float]:
        names = [f"{name}.weight" for name, module in model.named_modules() if isinstance(module, kinds)]
        return _drops(_scores(model, score, n_bits, names), score(model))

    return layer_sensitivity


def _one_scale(weight: Tensor, n_bits: int) -> Tensor:
    return fake_quantize(weight, symmetric_scale(weight, n_bits), n_bits)


LAYER_SENSITIVITY = (
    Mistake("never_restored", "You do not put the weight back before going on, so each drop is that of all layers up "
            "to this one.", _scan(restore=False)),
    Mistake("all_but_one", "You quantize every layer but this one. That answers another question.", _scan(others=True)),
    Mistake("returns_scores", "You return the scores themselves. Asked for is by how much they fall.",
            _then(lambda before, after: after)),
    Mistake("wrong_sign", "You return after - before. A layer that hurts must have a positive drop.",
            _then(lambda before, after: after - before)),
    Mistake("absolute_value", "You drop the sign. Quantizing a layer may by chance raise the score: below 0 is an "
            "answer.",
            _then(lambda before, after: max(before - after, after - before))),
    Mistake("relative_drop", "You divide by the score before. The drop is in units of the score.",
            _then(lambda before, after: (before - after) / before)),
    Mistake("against_the_layer_before", "You compare with the score of the layer before. Each must be compared with "
            "the network as it was.", _to_the_last),
    Mistake("scores_the_original", "The quantized copy is never scored: you score the original, and nothing falls.",
            _then(lambda before, after: 0.0)),
    Mistake("one_scale", "You use one scale for the whole weight. Take one for each output channel.",
            _scan(round_trip=_one_scale)),
    Mistake("ignores_n_bits", "Your result is the same for every n_bits.",
            _scan(round_trip=lambda weight, n_bits: _round_trip(weight, 8))),
    Mistake("every_parameter", "You scan every parameter, also biases and batch norms. weight_names(model) has the "
            "ones asked for.", _all_parameters),
    Mistake("convolutions_only", "The linear layer is missing.", _some(nn.Conv2d)),
)  # fmt: skip


def bits_probes() -> list[Args]:
    """Tables of three and of four layers, each with a tight and a loose budget."""
    losses = {"a": [0.0, 0.1, 0.9, 3.0], "b": [0.05, 0.3, 0.5, 8.0], "c": [5.02, 5.7, 5.75, 5.8]}
    sizes = {"a": [80, 40, 30, 20], "b": [160, 80, 60, 40], "c": [320, 160, 120, 80]}
    more = {**losses, "d": [0.5, 0.51, 0.9, 1.4]}, {**sizes, "d": [24, 12, 9, 6]}
    return [(losses, sizes, 440), (losses, sizes, 260), (*more, 230), (losses, sizes, 600), (*more, 299)]


def _total(sizes: Sizes, chosen: dict[str, int]) -> int:
    return sum(sizes[name][i] for name, i in chosen.items())


Price = Callable[[list[float], list[int], int], float]


def _greedy(
    price: Price, *, jump: int = 1, cheapest: bool = True, strict: bool = False, indices: bool = False
) -> Callable[..., dict[str, int]]:
    """The greedy search with its own price of a move, of losses, sizes and the option a layer is at."""

    def greedy_bits(
        losses: Losses, sizes: Sizes, budget: int, bits: Sequence[int] = (8, 4, 3, 2)
    ) -> dict[str, int]:
        chosen, last = dict.fromkeys(losses, 0), len(bits) - 1
        while _total(sizes, chosen) + strict > budget:
            prices = {name: price(losses[name], sizes[name], i) for name, i in chosen.items() if i < last}
            name = (min if cheapest else max)(prices, key=prices.__getitem__)
            chosen[name] = min(chosen[name] + jump, last)
        return {name: i if indices else bits[i] for name, i in chosen.items()}

    return greedy_bits


def _per_byte(loss: list[float], size: list[int], i: int) -> float:
    return (loss[i + 1] - loss[i]) / (size[i] - size[i + 1])


def _upwards(losses: Losses, sizes: Sizes, budget: int, bits: Sequence[int] = (8, 4, 3, 2)) -> dict[str, int]:
    chosen = dict.fromkeys(losses, len(bits) - 1)
    while True:
        gains = {
            name: -_per_byte(losses[name], sizes[name], i - 1)
            for name, i in chosen.items()
            if i and _total(sizes, {**chosen, name: i - 1}) <= budget
        }
        if not gains:
            return {name: bits[i] for name, i in chosen.items()}
        chosen[min(gains, key=gains.__getitem__)] -= 1


def _all_together(
    losses: Losses, sizes: Sizes, budget: int, bits: Sequence[int] = (8, 4, 3, 2)
) -> dict[str, int]:
    i = next(i for i in range(len(bits)) if _total(sizes, dict.fromkeys(losses, i)) <= budget)
    return dict.fromkeys(losses, bits[i])


def _in_one_order(
    losses: Losses, sizes: Sizes, budget: int, bits: Sequence[int] = (8, 4, 3, 2)
) -> dict[str, int]:
    chosen = dict.fromkeys(losses, 0)
    for name in sorted(losses, key=lambda name: _per_byte(losses[name], sizes[name], 0)):
        while chosen[name] + 1 < len(bits) and _total(sizes, chosen) > budget:
            chosen[name] += 1
    return {name: bits[i] for name, i in chosen.items()}


GREEDY_BITS = (
    Mistake("ignores_bytes", "You take the move that adds the least loss, however little it saves. Divide by the "
            "bytes saved.",
            _greedy(lambda loss, size, i: loss[i + 1] - loss[i])),
    Mistake("ignores_losses", "You take the move that saves the most bytes, whatever it costs.",
            _greedy(lambda loss, size, i: size[i + 1] - size[i])),
    Mistake("whole_loss", "You price a move by the loss after it. What counts is how much it adds.",
            _greedy(lambda loss, size, i: loss[i + 1] / (size[i] - size[i + 1]))),
    Mistake("per_byte_left", "You divide by the bytes that are left. Divide by those that the move saves.",
            _greedy(lambda loss, size, i: (loss[i + 1] - loss[i]) / size[i + 1])),
    Mistake("dearest_first", "You take the move with the highest price.", _greedy(_per_byte, cheapest=False)),
    Mistake("straight_to_the_end", "You send a layer to the coarsest option at once. Move by one option, then look "
            "again.",
            _greedy(_per_byte, jump=99)),
    Mistake("one_move_too_many", "A total equal to the budget fits. You go on.", _greedy(_per_byte, strict=True)),
    Mistake("in_one_order", "You order the layers once and use each up before the next. After every move the prices "
            "differ.",
            _in_one_order),
    Mistake("all_together", "All your layers have the same bits. The point is that they need not.", _all_together),
    Mistake("upwards", "You start from the coarsest options and spend what is left. Start from the finest, and save.",
            _upwards),
    Mistake("returns_options", "You return the numbers of the options, not the "
            "bits.", _greedy(_per_byte, indices=True)),
)  # fmt: skip
