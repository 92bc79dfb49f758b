"""Known mistakes in capturing features and in training towards a hint.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.exercises.inputs import normal
from coursekit.exercises.spec import Fixture, Mistake

__all__ = ["CAPTURE", "HINT_STAGE", "capture_probes", "hint_probes"]

Args = tuple[Any, ...]
Features = dict[str, Tensor]


def capture_probes() -> list[Args]:
    """Modules on both levels and behind an in-place ReLU, both modes, a name that is not there, an error on the way."""
    x = normal(3, 1, 6, 6, seed=1)
    return [
        (Fixture("features.small", (0,)), x, ["conv", "norm", "block.norm", "fc"]),
        (Fixture("features.small", (1, True)), x, ["block", "block.conv", "norm"]),
        (Fixture("features.small", (2,)), x, ["conv", "convolution"]),
        (Fixture("features.small", (3,)), x.repeat(1, 2, 1, 1), ["conv", "fc"]),
        (Fixture("features.again"), x, ["fc"]),
    ]


def _captured(
    network: nn.Module,
    images: Tensor,
    modules: dict[str, nn.Module],
    *,
    value: Callable[[Any, Tensor], Any] = lambda inputs, output: output.clone(),
    keys: dict[str, str] | None = None,
    remove: bool = True,
    remove_on_error: bool = True,
    passes: int = 1,
) -> Features:
    """What hooks on these modules keep; the options are the ways to get it wrong."""
    features: Features = {}
    handles = []
    for name, module in modules.items():

        def hook(
            module: nn.Module, inputs: Any, output: Tensor, key: str = (keys or {}).get(name, name)
        ) -> None:
            features[key] = value(inputs, output)

        handles.append(module.register_forward_hook(hook))
    done = False
    try:
        for _ in range(passes):
            network(images)
        done = True
    finally:
        for handle in handles if (remove if done else remove and remove_on_error) else []:
            handle.remove()
    return features


def _named(network: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    known = dict(network.named_modules())
    return {name: known[name] for name in names}


def _capture(**wrong: Any) -> Callable[..., Any]:
    """Right but for these options of `_captured`."""

    def capture_features(network: nn.Module, images: Tensor, names: Sequence[str]) -> Features:
        return _captured(network, images, _named(network, names), **wrong)

    return capture_features


def _last_name_only(network: nn.Module, images: Tensor, names: Sequence[str]) -> Features:
    return _captured(network, images, _named(network, names), keys=dict.fromkeys(names, names[-1]))


def _children_only(network: nn.Module, images: Tensor, names: Sequence[str]) -> Features:
    children = dict(network.named_children())
    return _captured(network, images, {name: children[name] for name in names})


def _ignores_unknown(network: nn.Module, images: Tensor, names: Sequence[str]) -> Features:
    return _captured(network, images, {n: m for n, m in network.named_modules() if n in names})


def _by_ending(network: nn.Module, images: Tensor, names: Sequence[str]) -> Features:
    endings = {name.split(".")[-1] for name in names}
    return _captured(
        network, images, {n: m for n, m in network.named_modules() if n and n.split(".")[-1] in endings}
    )


def _sets_eval(network: nn.Module, images: Tensor, names: Sequence[str]) -> Features:
    return _captured(network.eval(), images, _named(network, names))


def _no_grad(network: nn.Module, images: Tensor, names: Sequence[str]) -> Features:
    with torch.no_grad():
        return _captured(network, images, _named(network, names))


def _list(network: nn.Module, images: Tensor, names: Sequence[str]) -> Any:
    features = _captured(network, images, _named(network, names))
    return [features[name] for name in names]


CAPTURE = (
    Mistake("hooks_left", "Your hooks stay in the network. From now on every forward pass runs them, and keeps what "
            "they hold in memory. register_forward_hook returns a handle; its remove() takes the hook away.",
            _capture(remove=False)),
    Mistake("hooks_left_on_error", "When the network raises, your hooks stay behind. What must happen in any case "
            "belongs into a finally.", _capture(remove_on_error=False)),
    Mistake("overwritten_in_place", "The ReLU behind the module works in place: it writes into the very tensor that "
            "you kept. Keep a copy.", _capture(value=lambda inputs, output: output)),
    Mistake("input_not_output", "You keep what goes into the module. A hook gets (module, inputs, output).",
            _capture(value=lambda inputs, output: inputs[0].clone())),
    Mistake("last_name_only", "All hooks write under the same name, the loop's last: a function made in a loop looks "
            "its variable up when it is called. Bind it: def hook(module, inputs, output, name=name).",
            _last_name_only),
    Mistake("children_only", "You look among the direct children only. Names with a dot, such as block.conv, are in "
            "named_modules().", _children_only),
    Mistake("ignores_unknown", "A name that no module has is passed over in silence. Look each name up, so that a "
            "typing error is an error.", _ignores_unknown),
    Mistake("by_ending", "You match the last part of a name, so that conv also finds block.conv. Compare the whole "
            "name.", _by_ending),
    Mistake("sets_eval", "You switch the network to eval mode. That changes what it computes, and it stays switched.",
            _sets_eval),
    Mistake("no_grad", "You run the network without gradients, and no student could learn from such features. "
            "Leave that to the caller.", _no_grad),
    Mistake("many_passes", "The images go through the network twice. One pass fills all the hooks; each further one "
            "costs its time again and moves the statistics of batch norm.", _capture(passes=2)),
    Mistake("returns_list", "The features are right, but in a list. Return a dict: name to feature.", _list),
)  # fmt: skip


def hint_probes() -> list[Args]:
    """Two students and teachers, several steps, two step sizes."""
    return [
        (*(Fixture(f"features.{part}", (seed,)) for part in ("guided", "hint", "regressor")),
         normal(4, 1, 6, 6, seed=seed), steps, lr)
        for seed, steps, lr in ((0, 2, 0.5), (7, 3, 0.02))
    ]  # fmt: skip


def _numbers(losses: list[Tensor]) -> list[float]:
    return [loss.item() for loss in losses]


def _stage(
    *,
    guided_learns: bool = True,
    regressor_learns: bool = True,
    teacher_learns: bool = False,
    teacher_eval: bool = True,
    guided_eval: bool = False,
    zero: bool = True,
    after: bool = False,
    distance: Callable[[Tensor, Tensor], Tensor] = lambda a, b: (a - b).square().mean() / 2,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
    result: Callable[[list[Tensor]], Any] = _numbers,
) -> Callable[..., Any]:
    """Right but for these options."""

    def hint_stage(
        guided: nn.Module, hint: nn.Module, regressor: nn.Module, images: Tensor, steps: int, lr: float
    ) -> Any:
        learn = ((guided, guided_learns), (regressor, regressor_learns), (hint, teacher_learns))
        descent = optimizer([p for part, learns in learn if learns for p in part.parameters()], lr=lr)
        hint.train(not teacher_eval), guided.train(not guided_eval)
        losses = []
        for _ in range(steps):
            target = hint(images)
            loss = distance(regressor(guided(images)), target if teacher_learns else target.detach())
            if zero:
                descent.zero_grad()
            loss.backward()
            descent.step()
            if after:
                with torch.no_grad():
                    loss = distance(regressor(guided(images)), target)
            losses.append(loss.detach())
        return result(losses)

    return hint_stage


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().mean() / 2


HINT_STAGE = (
    Mistake("regressor_not_trained", "Only the student learns: the regressor keeps its random weights, and the student "
            "has to bend to them. Give the optimizer both.", _stage(regressor_learns=False)),
    Mistake("guided_not_trained", "Only the regressor learns. Either the student's parameters are not in the "
            "optimizer, or you detached its features; detach the teacher's.", _stage(guided_learns=False)),
    Mistake("teacher_trained", "The teacher learns too, and moves towards its student. Compute its features under "
            "torch.no_grad(), and leave its parameters out of the optimizer.", _stage(teacher_learns=True)),
    Mistake("teacher_in_train_mode", "The teacher runs in training mode: its batch norms use this batch's statistics "
            "and forget those they were trained with. Call hint.eval().", _stage(teacher_eval=False)),
    Mistake("guided_in_eval_mode", "The student runs in eval mode while it trains: its batch norms use statistics "
            "that nothing has measured yet.", _stage(guided_eval=True)),
    Mistake("gradients_add_up", "The gradients of all steps add up, since nothing sets them to zero before "
            "backward().", _stage(zero=False)),
    Mistake("loss_after_step", "These are the losses after each step. Asked for are those before it, which you "
            "compute anyway.", _stage(after=True)),
    Mistake("no_half", "The half of the formula is missing: twice the loss, and steps twice as long.",
            _stage(distance=lambda a, b: (a - b).square().mean())),
    Mistake("sum_not_mean", "You sum over the elements. The mean keeps the loss, and the step, independent of the size "
            "of the maps.", _stage(distance=lambda a, b: (a - b).square().sum() / 2)),
    Mistake("sum_per_image", "You sum over each image's elements and average over the images, as in the paper. Here it "
            "is the mean over all elements.", _stage(distance=lambda a, b: (a - b).square().sum((1, 2, 3)).mean() / 2)),
    Mistake("absolute_error", "You take absolute differences. A hint loss squares them.",
            _stage(distance=lambda a, b: (a - b).abs().mean() / 2)),
    Mistake("normalised_features", "You normalise the features over the channels before you compare them, as some "
            "texts do. Their length is part of the hint, and such a loss is at most 2 over the number of channels.",
            _stage(distance=_cosine)),
    Mistake("adam", "This is Adam. Asked for is plain gradient descent, so that every step can be checked.",
            _stage(optimizer=torch.optim.Adam)),
    Mistake("last_loss_only", "You return the last loss only. Return a list with one for each step.",
            _stage(result=lambda losses: losses[-1].item())),
    Mistake("returns_tensors", "The losses are tensors, each with its graph behind it. .item() makes them numbers.",
            _stage(result=list)),
)  # fmt: skip
