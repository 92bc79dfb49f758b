"""Known mistakes in scoring weights, in stepping under a mask, and in counting."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.spec import Mistake
from coursekit.exercises.weight_pruning.properties_weights import adam_case, pruned_state, wave

__all__ = ["MASKED_ADAM", "NONZERO_OF_STATE", "TAYLOR_SCORE", "adam_probes", "state_probes", "taylor_probes"]

Args = tuple[Any, ...]


def taylor_probes() -> list[Args]:
    """Weights and gradients of either sign, one batch, three batches, and batches that nearly cancel."""
    weight, gradients = wave(2, 3) * 2, wave(3, 2, 3, phase=1)
    return [
        (weight, gradients),
        (weight, gradients[:1] * 5),
        (wave(4), torch.stack([wave(4, phase=2), -0.9 * wave(4, phase=2)])),
    ]


TAYLOR_SCORE = (
    Mistake("gradient_only", "You left the weight out. A large gradient on a weight that is almost 0 says nothing: "
            "removing it moves it by almost nothing.", lambda w, g: g.abs().mean(0)),
    Mistake("mean_before_abs", "You average the gradients first. In a trained network they cancel over the batches, "
            "and what is left is noise.", lambda w, g: (w * g.mean(0)).abs()),
    Mistake("no_abs", "Your scores have signs. A weight whose removal would change the loss much, up or down, is not a "
            "weight to remove first.", lambda w, g: (w * g).mean(0)),
    Mistake("weight_without_abs", "You take |g| but not |w|: negative weights get negative scores.",
            lambda w, g: w * g.abs().mean(0)),
    Mistake("squared", "You square where the absolute value is asked for. Without batches that would rank alike; the "
            "mean over batches does not.", lambda w, g: (w * g).square().mean(0)),
    Mistake("sum_of_batches", "You add the batches up: with twice the data the scores would be twice as large. Take "
            "the mean.", lambda w, g: (w * g).abs().sum(0)),
    Mistake("weight_only", "This is the magnitude: the gradients do not appear.", lambda w, g: w.abs()),
    Mistake("added", "You add |w| and |g|. To first order the loss changes by their product.",
            lambda w, g: w.abs() + g.abs().mean(0)),
    Mistake("one_number", "You average over everything and give all weights one score. The mean is over the batches "
            "only: dim=0.", lambda w, g: (w * g).abs().mean().expand(w.shape).clone()),
    Mistake("last_batch", "Only the last batch counts in your scores.", lambda w, g: (w * g[-1]).abs()),
    Mistake("first_batch", "Only the first batch counts in your scores.", lambda w, g: (w * g[0]).abs()),
)  # fmt: skip


def adam_probes() -> list[Args]:
    """Three and two steps from full moments, early and late, with other learning rates."""
    other = adam_case(2, 40, phase=3)
    return [adam_case(), (*other[:6], 0.05), adam_case(1, 2)]


def _adam(
    w: Tensor, g: Tensor, first: Tensor, second: Tensor, t: int, lr: float
) -> tuple[Tensor, Tensor, Tensor]:
    first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g * g
    root = (second / (1 - 0.999**t)).sqrt() + 1e-8
    return w - lr * first / (1 - 0.9**t) / root, first, second


def _variant(weight: bool = True, moments: tuple[bool, bool] = (True, True), gradient: bool = True,
             after: bool = False, offset: int = 1, invert: bool = False) -> Any:  # fmt: skip
    """The steps with masks in some places only: on weight and moments at the start, on gradients, after each step."""

    def stepped(w: Tensor, mask: Tensor, gradients: Tensor, first: Tensor, second: Tensor, step: int,
                lr: float = 1e-3) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        kept = (~mask if invert else mask).float()
        w = w * kept if weight else w
        first, second = (m * kept if on else m for m, on in zip((first, second), moments, strict=True))
        for t, g in enumerate(gradients, start=step + offset):
            w, first, second = _adam(w, g * kept if gradient else g, first, second, t, lr)
            w = w * kept if after else w
        return w, first, second

    return stepped


def _from_one(w, mask, gradients, first, second, step, lr=1e-3):
    return _variant()(w, mask, gradients, first, second, 0, lr)


def _empty_moments(w, mask, gradients, first, second, step, lr=1e-3):
    return _variant()(w, mask, gradients, torch.zeros_like(w), torch.zeros_like(w), step, lr)


def _mean_gradient(w, mask, gradients, first, second, step, lr=1e-3):
    return _variant()(w, mask, gradients.mean(0, keepdim=True), first, second, step, lr)


def _default_lr(w, mask, gradients, first, second, step, lr=1e-3):
    return _variant()(w, mask, gradients, first, second, step, 1e-3)


NO_MOMENTS = (False, False)
MASKED_ADAM = (
    Mistake("weight_once", "You zero the weights once and step on as before. The first gradient brings them back.",
            _variant(moments=NO_MOMENTS, gradient=False)),
    Mistake("gradient_only", "The gradients are masked, the weights were, but the moments are not: what they remember "
            "from before still moves the weights away from 0.", _variant(moments=NO_MOMENTS)),
    Mistake("weight_forgotten", "Gradients and moments are masked, but nobody set the weights themselves to 0: they "
            "stay where they were.", _variant(weight=False)),
    Mistake("weight_after_step", "You zero the weights after each step, but the moments fill up with the gradients of "
            "weights that do not exist.", _variant(moments=NO_MOMENTS, gradient=False, after=True)),
    Mistake("moments_forgotten", "The weights stay 0, but the moments still remember: they fade, and a step without "
            "your mask would move the weight.", _variant(moments=NO_MOMENTS, after=True)),
    Mistake("second_moment_forgotten", "exp_avg is masked, exp_avg_sq is not.", _variant(moments=(True, False))),
    Mistake("first_moment_forgotten", "exp_avg_sq is masked, exp_avg is not, and that is the one that moves weights.",
            _variant(moments=(False, True), after=True)),
    Mistake("inverted", "You zero what the mask keeps. True means kept.", _variant(invert=True)),
    Mistake("counts_from_one", "Your steps count from 1, but the moments have seen `step` steps already: the next one "
            "is step + 1. The correction of the first steps makes yours too long.", _from_one),
    Mistake("counts_from_step", "The next step is number step + 1; you number it step.", _variant(offset=0)),
    Mistake("moments_emptied", "You throw all moments away. Those of the weights that stay are still needed.",
            _empty_moments),
    Mistake("one_mean_step", "You make one step with the mean gradient. There is one step for each gradient.",
            _mean_gradient),
    Mistake("own_learning_rate", "You leave lr out: pass it on to adam_step.", _default_lr),
)  # fmt: skip


def state_probes() -> list[Args]:
    """Masked and plain weights, kept zeros, tiny values, biases with zeros."""
    two = {
        "a.weight_orig": wave(2, 4), "a.weight_mask": torch.tensor([[1.0, 0, 0, 1], [0, 0, 0, 0]]),
        "a.bias": torch.tensor([0.5, 0.0]),
    }  # fmt: skip
    return [
        (pruned_state(),),
        (two,),
        ({"w": torch.tensor([0.0, 1e-4, 3.0, 4.0]), "b": torch.tensor([0.0, 2.0])},),
    ]


State = dict[str, Tensor]


def _acting(state: State) -> State:
    """The weights that act."""
    plain = {name: value for name, value in state.items() if not name.endswith(("_orig", "_mask"))}
    masked = {
        name[:-5]: value * state[name[:-5] + "_mask"]
        for name, value in state.items()
        if name.endswith("_orig")
    }
    return plain | masked


def _count(state: State) -> tuple[int, int]:
    return sum(int((w != 0).sum()) for w in state.values()), sum(w.numel() for w in state.values())


def _without(state: State, *endings: str) -> State:
    return {name: value for name, value in state.items() if not name.endswith(endings)}


def _by_mask(state: State) -> tuple[int, int]:
    """Masks where there are some, weights elsewhere."""
    return _count(_without(state, "_orig"))


def _kept_as_total(state: State) -> tuple[int, int]:
    kept = {name: value[value != 0] for name, value in state.items() if name.endswith("_mask")}
    total = _count(_without(state, "_orig", "_mask") | kept)[1]
    return _count(_acting(state))[0], total


def _visible(state: State) -> State:
    """The weights that act, where values below a thousandth count as zero."""
    return {name: w * (w.abs() > 1e-3) for name, w in _acting(state).items()}


NONZERO_OF_STATE = (
    Mistake("counts_orig", "You count weight_orig, the dense weight behind the mask: nothing in it is pruned. What "
            "acts is its product with the mask.", lambda state: _count(_without(state, "_mask"))),
    Mistake("counts_masks_too", "Your total holds the masks too: a mask is not a parameter.",
            lambda state: _count(state)),
    Mistake("counts_the_mask", "You count the ones of the mask. A weight that is kept can still be 0 itself.",
            _by_mask),
    Mistake("acting_and_orig", "You count each masked weight twice: as x_orig, and as the product.",
            lambda state: _count(_without(state, "_mask") | _acting(state))),
    Mistake("weights_only", "You leave out the biases: they are in the file like everything else.",
            lambda state: _count(_without(_acting(state), "bias", "b"))),
    Mistake("masked_only", "You count only what has a mask. Plain entries belong to the network too.",
            lambda state: _count({k: v for k, v in _acting(state).items() if k + "_mask" in state})),
    Mistake("total_of_kept", "Your total leaves out what was pruned. It is the number of all entries, zeros too.",
            _kept_as_total),
    Mistake("counts_zeros", "You count the zeros. The first number is of those that are not.",
            lambda state: (_count(_acting(state))[1] - _count(_acting(state))[0], _count(_acting(state))[1])),
    Mistake("nearly_zero", "You take small values for zeros. Only 0.0 is one: a small weight still takes its room.",
            lambda state: _count(_visible(state))),
    Mistake("share", "You return the share. Counts are asked for, the share follows.",
            lambda state: (_count(_acting(state))[0] / _count(_acting(state))[1], _count(_acting(state))[1])),
    Mistake("tensors", "The numbers are right, but they are tensors: int(...) makes them Python numbers.",
            lambda state: tuple(torch.tensor(n) for n in _count(_acting(state)))),
)  # fmt: skip
