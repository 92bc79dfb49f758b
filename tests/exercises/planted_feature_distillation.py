"""Wrong and right ways to capture features and to train towards a hint, as students would write them."""

from __future__ import annotations

SETUP = """
import torch
import torch.nn.functional as F
from torch import Tensor, nn
"""


def _capture(hook: str = "features[name] = output.clone()", *, before: str = "", after: str = "") -> str:
    """A plain solution with these lines in its hook, before and after the pass."""
    return f"""
def capture_features(network, images, names):
    modules = dict(network.named_modules())
    chosen = [modules[name] for name in names]
    features, handles = {{}}, []
    {before or "pass"}
    for name, module in zip(names, chosen):
        def hook(module, inputs, output, name=name):
            {hook}
        handles.append(module.register_forward_hook(hook))
    try:
        network(images)
    finally:
        for handle in handles:
            handle.remove()
    {after or "return features"}
"""


_CAPTURE_WRONG = {
    "hooks_left": """
def capture_features(network, images, names):
    modules = dict(network.named_modules())
    features = {}
    def keeper(name):
        def keep(module, args, out):
            features[name] = out.clone()
        return keep
    for name in names:
        modules[name].register_forward_hook(keeper(name))
    network(images)
    return features
""",
    "hooks_left_on_error": """
def capture_features(network, images, names):
    modules = dict(network.named_modules())
    features, handles = {}, []
    def keeper(name):
        def keep(module, args, out):
            features[name] = out.clone()
        return keep
    for name in names:
        handles.append(modules[name].register_forward_hook(keeper(name)))
    network(images)
    for handle in handles:
        handle.remove()
    return features
""",
    "overwritten_in_place": _capture("features[name] = output"),
    "input_not_output": _capture("features[name] = inputs[0].clone()"),
    "last_name_only": """
def capture_features(network, images, names):
    features, handles = {}, []
    modules = dict(network.named_modules())
    for name in names:
        module = modules[name]
        handles.append(module.register_forward_hook(lambda m, i, o: features.__setitem__(name, o.clone())))
    try:
        network(images)
    finally:
        [h.remove() for h in handles]
    return features
""",
    "children_only": """
def capture_features(network, images, names):
    features, handles = {}, []
    for name in names:
        module = network._modules[name]
        def hook(m, i, o, name=name):
            features[name] = o.clone()
        handles.append(module.register_forward_hook(hook))
    try:
        network(images)
    finally:
        for h in handles:
            h.remove()
    return features
""",
    "ignores_unknown": """
def capture_features(network, images, names):
    features, handles = {}, []
    for name, module in network.named_modules():
        if name in names:
            def hook(m, i, o, name=name):
                features[name] = o.clone()
            handles.append(module.register_forward_hook(hook))
    try:
        network(images)
    finally:
        for h in handles:
            h.remove()
    return features
""",
    "by_ending": """
def capture_features(network, images, names):
    features, handles = {}, []
    last = [n.rsplit(".", 1)[-1] for n in names]
    for name, module in network.named_modules():
        if name.rsplit(".", 1)[-1] in last:
            def hook(m, i, o, name=name):
                features[name] = o.clone()
            handles.append(module.register_forward_hook(hook))
    try:
        network(images)
    finally:
        for h in handles:
            h.remove()
    return features
""",
    "sets_eval": _capture(before="network.eval()"),
    "no_grad": """
def capture_features(network, images, names):
    modules = dict(network.named_modules())
    features, handles = {}, []
    for name in names:
        def hook(m, i, o, name=name):
            features[name] = o.clone()
        handles.append(modules[name].register_forward_hook(hook))
    try:
        with torch.no_grad():
            network(images)
    finally:
        for h in handles:
            h.remove()
    return features
""",
    "many_passes": _capture(before="network(images)"),
    "returns_list": _capture(after="return [features[name] for name in names]"),
}

_CAPTURE_RIGHT = [
    _capture(),
    """
def capture_features(network, images, names):
    from contextlib import ExitStack
    kept = {}
    def keeper(name):
        return lambda module, inputs, output: kept.update({name: output * 1})
    with ExitStack() as stack:
        for name in names:
            stack.callback(network.get_submodule(name).register_forward_hook(keeper(name)).remove)
        network(images)
    return {name: kept[name] for name in names}
""",
    """
def capture_features(network, images, names):
    names_of = {}
    for name, module in network.named_modules():
        if name in names:
            names_of[module] = name
    missing = set(names) - set(names_of.values())
    if missing:
        raise KeyError(f"no such modules: {missing}")
    out = {}
    def keep(module, args, result):
        out[names_of[module]] = torch.clone(result)
    handles = [module.register_forward_hook(keep) for module in names_of]
    try:
        network(images)
        return out
    finally:
        while handles:
            handles.pop().remove()
""",
]


def _stage(
    learn: str = "[*guided.parameters(), *regressor.parameters()]",
    *,
    modes: str = "guided.train(); hint.eval()",
    target: str = "with torch.no_grad():\n        target = hint(images)",
    loss: str = "0.5 * torch.mean((regressor(guided(images)) - target) ** 2)",
    zero: str = "optimizer.zero_grad()",
    optimizer: str = "torch.optim.SGD",
    keep: str = "losses.append(float(loss))",
    at_end: str = "",
    result: str = "losses",
) -> str:
    """A plain solution with these lines replaced."""
    return f"""
def hint_stage(guided, hint, regressor, images, steps, lr):
    {modes}
    optimizer = {optimizer}({learn}, lr=lr)
    {target}
    losses = []
    for step in range(steps):
        loss = {loss}
        {keep}
        {zero}
        loss.backward()
        optimizer.step()
        {at_end or "pass"}
    return {result}
"""


_TARGET_IN_LOSS = "0.5 * F.mse_loss(regressor(guided(images)), hint(images))"

_HINT_WRONG = {
    "regressor_not_trained": _stage("guided.parameters()"),
    "guided_not_trained": _stage(loss="0.5 * F.mse_loss(regressor(guided(images).detach()), target)"),
    "teacher_trained": _stage(
        "[*guided.parameters(), *hint.parameters(), *regressor.parameters()]", target="", loss=_TARGET_IN_LOSS
    ),
    "teacher_in_train_mode": _stage(modes="pass"),
    "guided_in_eval_mode": _stage(modes="hint.eval(); guided.eval()"),
    "gradients_add_up": _stage(zero="pass"),
    "loss_after_step": _stage(
        keep="pass", at_end="losses.append((0.5 * F.mse_loss(regressor(guided(images)), target)).item())"
    ),
    "no_half": _stage(loss="F.mse_loss(regressor(guided(images)), target)"),
    "sum_not_mean": _stage(loss="0.5 * F.mse_loss(regressor(guided(images)), target, reduction='sum')"),
    "sum_per_image": _stage(
        loss="0.5 * ((regressor(guided(images)) - target) ** 2).flatten(1).sum(1).mean()"
    ),
    "absolute_error": _stage(loss="0.5 * F.l1_loss(regressor(guided(images)), target)"),
    "normalised_features": _stage(
        loss="0.5 * F.mse_loss(F.normalize(regressor(guided(images)), p=2, dim=1), F.normalize(target, p=2, dim=1))"
    ),
    "adam": _stage(optimizer="torch.optim.Adam"),
    "last_loss_only": _stage(result="losses[-1]"),
    "returns_tensors": _stage(keep="losses.append(loss.detach())"),
}

_HINT_RIGHT = [
    _stage(),
    """
def hint_stage(guided, hint, regressor, images, steps, lr):
    hint.eval()
    guided.train()
    parameters = list(guided.parameters()) + list(regressor.parameters())
    history = []
    for _ in range(steps):
        difference = regressor(guided(images)) - hint(images).detach()
        loss = difference.pow(2).sum() / (2 * difference.numel())
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for p, g in zip(parameters, gradients):
                p.sub_(lr * g)
        history.append(loss.item())
    return history
""",
    """
def hint_stage(guided, hint, regressor, images, steps, lr):
    student = nn.Sequential(guided, regressor).train()
    teacher = hint.eval()
    with torch.no_grad():
        goal = teacher(images)
    sgd = torch.optim.SGD(student.parameters(), lr, momentum=0.0)
    losses = []
    for _ in range(steps):
        student.zero_grad()
        loss = F.mse_loss(student(images), goal) / 2
        losses += [loss.item()]
        loss.backward()
        sgd.step()
    return losses
""",
]

WRONG = {"capture_features": _CAPTURE_WRONG, "hint_stage": _HINT_WRONG}
RIGHT = {"capture_features": _CAPTURE_RIGHT, "hint_stage": _HINT_RIGHT}
