"""Known mistakes in scoring channels, in cutting a chain, and in finding features behind a flatten.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.inputs import normal as _random
from coursekit.exercises.spec import Mistake

__all__ = ["CHANNEL_IMPORTANCE", "CUT", "FLAT_INDICES", "cut_probes", "flat_probes", "importance_probes"]

Args = tuple[Any, ...]
Chain = dict[str, Tensor]


def importance_probes() -> list[Args]:
    """Convolution and linear weights, both norms, with and without a scale of either sign."""
    conv, linear = _random(4, 4, 3, 2), _random(5, 3, seed=1)
    scale = torch.tensor([0.5, -2.0, 0.0, 3.0])
    return [
        (conv, None, 1),
        (conv, None, 2),
        (conv, scale, 1),
        (conv, scale, 2),
        (linear, None, 1),
        (linear, None, 2),
    ]


def _norm(weight: Tensor, p: int) -> Tensor:
    return weight.abs().pow(p).flatten(1).sum(1).pow(1 / p)


def _scaled(norm: Tensor, scale: Tensor | None) -> Tensor:
    return norm if scale is None else norm * scale.abs()


def _divides(weight: Tensor, scale: Tensor | None = None, p: int = 1) -> Tensor:
    return _norm(weight, p) if scale is None else _norm(weight, p) / scale.abs()


def _signed_scale(weight: Tensor, scale: Tensor | None = None, p: int = 1) -> Tensor:
    return _norm(weight, p) if scale is None else _norm(weight, p) * scale


def _per_kernel(weight: Tensor, scale: Tensor | None = None, p: int = 1) -> Tensor:
    norm = weight.abs().pow(p).flatten(2).sum(2).pow(1 / p) if weight.dim() > 2 else weight.abs()
    return norm if scale is None else norm * scale.abs()[:, None]


CHANNEL_IMPORTANCE = (
    Mistake("wrong_axis", "You have one number for each *input* channel. A filter is weight[c]: dimension 0 counts "
            "the outputs, and those are what pruning removes.",
            lambda w, scale=None, p=1: _scaled(_norm(w.transpose(0, 1), p), scale)),
    Mistake("per_kernel", "You sum over the kernel only and keep the input channels apart. One filter spans all of "
            "its inputs, so all dimensions but the first must go.", _per_kernel),
    Mistake("no_magnitude", "Positive and negative weights cancel in your sum: take magnitudes first.",
            lambda w, scale=None, p=1: _scaled(w.pow(p).flatten(1).sum(1).pow(1 / p), scale)),
    Mistake("mean", "You take the mean. Within a layer the order is the same, but the statement asks for the sum, "
            "and the two differ as soon as layers are compared.",
            lambda w, scale=None, p=1: _scaled(w.abs().pow(p).flatten(1).mean(1).pow(1 / p), scale)),
    Mistake("no_root", "For p = 2 the root is missing: the length of (3, 4) is 5, not 25.",
            lambda w, scale=None, p=1: _scaled(w.abs().pow(p).flatten(1).sum(1), scale)),
    Mistake("always_p_1", "p does not change your result: with p = 2 magnitudes are squared before the sum.",
            lambda w, scale=None, p=1: _scaled(_norm(w, 1), scale)),
    Mistake("always_p_2", "Your result is the Euclidean length even for p = 1.",
            lambda w, scale=None, p=1: _scaled(_norm(w, 2), scale)),
    Mistake("largest_weight", "You take the largest magnitude of a filter. All of its weights count.",
            lambda w, scale=None, p=1: _scaled(w.abs().flatten(1).amax(1), scale)),
    Mistake("ignores_scale", "Batch norm's factor has no effect on your result, so a channel that it multiplies by 0 "
            "still looks important.", lambda w, scale=None, p=1: _norm(w, p)),
    Mistake("signed_scale", "A negative factor makes your importance negative, and the channel goes first. Its sign "
            "does not matter, its size does.", _signed_scale),
    Mistake("divides_by_scale", "You divide by batch norm's factor. A channel that it multiplies by 3 matters three "
            "times as much.", _divides),
    Mistake("squared_scale", "You apply the scale before taking the power and forget that it, too, must be rooted "
            "back.",
            lambda w, scale=None, p=1: _norm(w, p) if scale is None else _norm(w, p) * scale.abs() ** 2),
    Mistake("order", "You return the order of the channels (argsort), not their importance.",
            lambda w, scale=None, p=1: _scaled(_norm(w, p), scale).argsort()),
)  # fmt: skip


def cut_probes() -> list[Args]:
    """Chains in which every axis is long enough to be cut by mistake, and keeps in and out of order."""
    names = ("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    chain = {
        "conv1.weight": _random(6, 7, 3, 3),
        "conv1.bias": _random(6, seed=1),
        **{name: _random(6, seed=2 + i).abs() + 0.1 for i, name in enumerate(names)},
        "conv2.weight": _random(8, 6, 3, 3, seed=7),
        "conv2.bias": _random(8, seed=8),
    }
    return [(chain, torch.tensor(keep)) for keep in ([1, 2, 4], [5, 0, 3, 1], [3])]


def _cut(chain: Chain, keep: Tensor, **instead: Tensor) -> Chain:
    """The right cut, but for the tensors named in `instead` (underscores for dots)."""
    result = {name: value[keep] for name, value in chain.items() if not name.startswith("conv2")}
    result |= {"conv2.weight": chain["conv2.weight"][:, keep], "conv2.bias": chain["conv2.bias"]}
    return result | {name.replace("__", "."): value for name, value in instead.items()}


def _others(chain: Chain, keep: Tensor) -> Tensor:
    return torch.tensor([i for i in range(len(chain["bn.weight"])) if i not in keep.tolist()])


def _no_norm(chain: Chain, keep: Tensor) -> Chain:
    return _cut(chain, keep) | {name: value for name, value in chain.items() if name.startswith("bn.")}


def _no_statistics(chain: Chain, keep: Tensor) -> Chain:
    return _cut(chain, keep) | {name: value for name, value in chain.items() if name.startswith("bn.running")}


def _new_norm(chain: Chain, keep: Tensor) -> Chain:
    ones, zeros = torch.ones(len(keep)), torch.zeros(len(keep))
    return _cut(chain, keep, bn__weight=ones, bn__bias=zeros, bn__running_mean=zeros, bn__running_var=ones)


def _zeroed(chain: Chain, keep: Tensor) -> Chain:
    zeros = {name: value.clone() for name, value in chain.items()}
    for name, value in zeros.items():
        if not name.startswith("conv2"):
            value[_others(chain, keep)] = 0
    zeros["conv2.weight"][:, _others(chain, keep)] = 0
    return zeros


CUT = (
    Mistake("next_inputs_kept", "conv2 still expects the old number of channels: it must lose the inputs that nobody "
            "makes any more.", lambda c, keep: _cut(c, keep, conv2__weight=c["conv2.weight"])),
    Mistake("next_outputs_cut", "You cut conv2 along dimension 0, its outputs. What it reads is dimension 1.",
            lambda c, keep: _cut(c, keep, conv2__weight=c["conv2.weight"][keep])),
    Mistake("both_sides_of_conv2_cut", "conv2 loses outputs as well as inputs. Its outputs are other channels, which "
            "stay (in a last layer they are the classes).",
            lambda c, keep: _cut(c, keep, conv2__weight=c["conv2.weight"][keep][:, keep])),
    Mistake("norm_kept", "Batch norm still has all of its channels: scale, shift, mean and variance must be cut too.",
            _no_norm),
    Mistake("statistics_kept", "Scale and shift are cut, but running_mean and running_var are not. They are "
            "buffers, no parameters, and just as long.", _no_statistics),
    Mistake("norm_new", "Your batch norm is a fresh one: the kept channels must keep their trained values.", _new_norm),
    Mistake("bias_kept", "conv1's bias still has an entry for every old channel.",
            lambda c, keep: _cut(c, keep, conv1__bias=c["conv1.bias"])),
    Mistake("next_bias_cut", "conv2's bias belongs to conv2's outputs, and those all stay.",
            lambda c, keep: _cut(c, keep, conv2__bias=c["conv2.bias"][keep])),
    Mistake("wrong_axis_of_conv1", "You cut conv1 along dimension 1, the channels it reads. Those it makes are "
            "dimension 0.", lambda c, keep: _cut(c, keep, conv1__weight=c["conv1.weight"][:, keep])),
    Mistake("removes_keep", "You remove the channels of `keep` and leave the others. It is the other way round.",
            lambda c, keep: _cut(c, _others(c, keep))),
    Mistake("first_n", "You keep the first len(keep) channels, whichever keep names.",
            lambda c, keep: _cut(c, torch.arange(len(keep)))),
    Mistake("sorted", "You sort keep. The channels were to come in the order in which keep names them.",
            lambda c, keep: _cut(c, keep.sort().values)),
    Mistake("zeroed", "You set the other channels to zero. They take as many bytes and as much time as before: "
            "remove them.", _zeroed),
)  # fmt: skip


def flat_probes() -> list[Args]:
    """Several channels and positions, in and out of order."""
    return [(torch.tensor([0, 2, 3]), 4), (torch.tensor([5, 1]), 3), (torch.tensor([2, 4, 7, 8]), 6)]


def _grid(keep: Tensor, n: int) -> Tensor:
    return keep[:, None] * n + torch.arange(n)


FLAT_INDICES = (
    Mistake("repeats_channels", "You repeat each channel's number. A linear layer counts features: channel c "
            "starts at feature c times positions.", lambda keep, n: keep.repeat_interleave(n)),
    Mistake("first_positions", "You keep only the first position of every channel.", lambda keep, n: keep * n),
    Mistake("no_stride", "Your blocks start at c instead of c times positions, so neighbouring channels overlap.",
            lambda keep, n: (keep[:, None] + torch.arange(n)).flatten()),
    Mistake("channels_last", "You count as if channels were the fastest dimension (N, H, W, C). flatten(1) of "
            "(N, C, H, W) writes one channel after the other.",
            lambda keep, n: (torch.arange(n)[:, None] * len(keep) + keep).flatten()),
    Mistake("position_by_position", "These are the right features in the wrong order: all positions of the first "
            "kept channel come first.", lambda keep, n: _grid(keep, n).t().flatten()),
    Mistake("counts_from_one", "You start at position 1: the first position of a channel is lost, and one of the "
            "next comes in.", lambda keep, n: (_grid(keep, n) + 1).flatten()),
    Mistake("renumbered", "These are the features of the *new*, smaller map. What is needed is where they stand in "
            "the old one.", lambda keep, n: torch.arange(len(keep) * n)),
    Mistake("not_flat", "The values are right, but in a matrix: flatten it, it is to be used as one index.", _grid),
    Mistake("first_channels", "You keep the first features up to the last kept channel, removed ones included.",
            lambda keep, n: torch.arange((int(keep.max()) + 1) * n)),
    Mistake("floats", "The values are right, but an index must be int64.",
            lambda keep, n: _grid(keep, n).flatten().float()),
    Mistake("a_list", "The values are right, but the result is a Python list: torch.tensor(...) makes an index of "
            "it.",
            lambda keep, n: _grid(keep, n).flatten().tolist()),
)  # fmt: skip
