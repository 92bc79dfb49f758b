"""Wrong and right attention maps, losses, relative distances and pairs of layers, as students would write them."""

from __future__ import annotations

SETUP = """
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
"""


def _map(body: str) -> str:
    return f"""
def attention_map(features):
    n, c, h, w = features.shape
    {body}
"""


_MAP_WRONG = {
    "softmax": _map("return F.softmax(torch.mean(torch.abs(features), dim=1).view(n, -1), dim=1)"),
    "softmax_of_squares": _map("return torch.softmax((features ** 2).sum(1).view(n, h * w), 1)"),
    "absolute": _map("return F.normalize(features.abs().sum(dim=1).reshape(n, -1))"),
    "root_of_squares": _map(
        "return F.normalize(torch.linalg.vector_norm(features, dim=1).reshape(n, -1), dim=1)"
    ),
    "square_of_sum": _map("return F.normalize((features.sum(1) ** 2).reshape(n, h * w), dim=1)"),
    "plain_sum": _map("return F.normalize(features.sum(1).reshape(n, h * w), dim=1)"),
    "over_the_batch": _map("q = features.pow(2).sum(1).reshape(n, -1); return q / q.norm(dim=0)"),
    "whole_batch": _map("q = features.pow(2).sum(1).reshape(n, -1); return q / torch.sqrt((q * q).sum())"),
    "sum_over_places": _map("return F.normalize(features.pow(2).flatten(2).sum(2), dim=1)"),
    "sum_over_images": _map("return F.normalize(features.pow(2).sum(dim=0).flatten(1), dim=1)"),
    "not_normalised": _map("return torch.einsum('nchw,nchw->nhw', features, features).flatten(1)"),
    "sums_to_one": _map("q = features.pow(2).sum(1).flatten(1); return F.normalize(q, p=1, dim=1)"),
    "largest_is_one": _map(
        "q = features.pow(2).sum(1).flatten(1); return q / q.max(dim=1, keepdim=True).values"
    ),
    "not_flattened": _map(
        "q = features.pow(2).sum(1); return q / q.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None]"
    ),
}

_MAP_RIGHT = [
    _map(
        "return F.normalize(features.pow(2).mean(1).reshape(n, -1), dim=1)"
    ),  # a mean is a sum, once normalised
    _map(
        "q = torch.einsum('nchw,nchw->nhw', features, features).flatten(1)\n"
        "    return q / q.square().sum(1, keepdim=True).sqrt().clamp(min=1e-30)"
    ),
    """
def attention_map(features):
    rows = []
    for image in features:
        energy = torch.stack([channel * channel for channel in image]).sum(0).flatten()
        length = energy.norm()
        rows.append(energy / length if length > 0 else energy)
    return torch.stack(rows)
""",
]


def _loss(
    end: str = "return (a - b).norm(dim=1).mean()",
    *,
    size: str = "min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])",
    maps: str = "F.adaptive_avg_pool2d(f.pow(2).sum(1), size).flatten(1)",
    unit: str = "F.normalize(q, dim=1)",
) -> str:
    """A plain solution with these lines replaced."""
    return f"""
def attention_loss(student, teacher):
    size = ({size})
    def at(f):
        q = {maps}
        return {unit}
    a, b = at(student), at(teacher)
    {end}
"""


_LOSS_WRONG = {
    "mean_square": _loss("return F.mse_loss(a, b)"),
    "squared_length": _loss("return ((a - b) ** 2).sum(dim=1).mean()"),
    "one_length": _loss("return torch.dist(a, b)"),
    "sum_over_images": _loss("return sum(torch.sqrt(((x - y) ** 2).sum()) for x, y in zip(a, b))"),
    "absolute_differences": _loss("return (a - b).abs().sum(1).mean()"),
    "half": _loss("return 0.5 * torch.linalg.norm(a - b, dim=1).mean()"),
    "not_normalised": _loss(unit="q"),
    "sums_to_one": _loss(unit="q / q.sum(dim=1, keepdim=True)"),
    "softmax": _loss(unit="torch.softmax(q, dim=1)"),
    "to_the_larger": _loss(
        size="max(student.shape[2], teacher.shape[2]), max(student.shape[3], teacher.shape[3])",
        maps="F.interpolate((f * f).sum(1)[:, None], size=size, mode='bilinear').flatten(1)",
    ),
    "to_the_students_size": _loss(size="student.shape[-2], student.shape[-1]"),
    "to_the_teachers_size": _loss(size="teacher.shape[-2], teacher.shape[-1]"),
    "pools_features": _loss(maps="F.adaptive_avg_pool2d(f, size).pow(2).sum(1).flatten(1)"),
    "pools_unit_maps": _loss(
        maps="F.adaptive_avg_pool2d(F.normalize(f.pow(2).sum(1).flatten(1)).view(-1, *f.shape[2:]), size).flatten(1)",
        unit="q",
    ),
    "max_pools": _loss(maps="F.adaptive_max_pool2d(f.pow(2).sum(1, keepdim=True), size).flatten(1)"),
    "takes_corner": _loss(maps="f.pow(2).sum(1)[..., :size[0], :size[1]].flatten(1)"),
    "returns_float": _loss("return torch.linalg.norm(a - b, dim=1).mean().item()"),
}

_LOSS_RIGHT = [
    _loss(),
    _loss("return torch.stack([torch.dist(x, y) for x, y in zip(a, b)]).mean()"),
    """
def attention_loss(student, teacher):
    height, width = (min(student.size(d), teacher.size(d)) for d in (2, 3))
    def rows(features):
        energy = features.square().mean(dim=1, keepdim=True)
        energy = F.interpolate(energy, size=(height, width), mode="area").reshape(len(features), -1)
        return energy / energy.norm(dim=1, keepdim=True)
    return (rows(student) - rows(teacher)).square().sum(dim=1).sqrt().mean()
""",
]


def _distances(body: str) -> str:
    return f"""
def relational_distances(embeddings):
    n = len(embeddings)
    d = torch.linalg.norm(embeddings.unsqueeze(1) - embeddings.unsqueeze(0), dim=-1)
    off = ~torch.eye(n, dtype=torch.bool)
    {body}
"""


_DISTANCES_WRONG = {
    "no_unit": _distances("return d"),
    "mean_with_diagonal": _distances("return d / d.mean()"),
    "squared": _distances("return d ** 2 / (d ** 2)[off].mean()"),
    "largest_is_one": _distances("return d / d.max()"),
    "sums_to_one": _distances("return d / d[off].sum()"),
    "row_by_row": _distances("return torch.stack([row / (row.sum() / (n - 1)) for row in d])"),
    "absolute": _distances("d = torch.cdist(embeddings, embeddings, p=1); return d / d[off].mean()"),
    "between_features": """
def relational_distances(embeddings):
    columns = embeddings.t()
    d = torch.stack([torch.stack([(a - b).norm() for b in columns]) for a in columns])
    k = len(columns)
    return d / (d.sum() / (k * k - k))
""",
    "unit_embeddings": _distances(
        "x = F.normalize(embeddings); d = (x[:, None] - x).norm(dim=2); return d / d[off].mean()"
    ),
    "cosine": _distances("x = F.normalize(embeddings, dim=1); return x @ x.T"),
    "pairs_only": _distances("p = torch.pdist(embeddings); return p / p.mean()"),
}

_DISTANCES_RIGHT = [
    _distances("return d / d[off].mean()"),
    """
def relational_distances(embeddings):
    pairs = torch.pdist(embeddings)
    n = len(embeddings)
    d = embeddings.new_zeros(n, n)
    rows, columns = torch.triu_indices(n, n, offset=1)
    d[rows, columns] = pairs / pairs.mean()
    return d + d.t()
""",
    """
def relational_distances(embeddings):
    d = torch.stack([torch.stack([(a - b).square().sum().sqrt() for b in embeddings]) for a in embeddings])
    return d * (d.numel() - len(d)) / d.sum()
""",
]


def _pairs(
    body: str = "return [(s, t[k]) for s in student for k in m if m[k] == s and k in t]",
    *,
    key: str = "shape[1:]",
    keep: str = "len(shape) == 3",
    mine: str = "student.items()",
    theirs: str = "teacher.items()",
) -> str:
    """A plain solution with these lines replaced."""
    return f"""
def pair_layers(student, teacher):
    m, t = {{}}, {{}}
    for name, shape in {mine}:
        if {keep}:
            m[{key}] = name
    for name, shape in {theirs}:
        if {keep}:
            t[{key}] = name
    {body}
"""


_FIRST_S, _FIRST_T = "reversed(student.items())", "reversed(teacher.items())"

_PAIRS_WRONG = {
    "first_layers": _pairs(mine=_FIRST_S, theirs=_FIRST_T),
    "teachers_first": _pairs(theirs=_FIRST_T),
    "students_first": _pairs(mine=_FIRST_S),
    "all_of_one_size": """
def pair_layers(student, teacher):
    pairs = []
    for s, a in student.items():
        for t, b in teacher.items():
            if len(a) == 3 and len(b) == 3 and a[1] == b[1] and a[2] == b[2]:
                pairs.append((s, t))
    return pairs
""",
    "same_channels": _pairs(key="shape"),
    "height_only": _pairs(key="shape[1]"),
    "area": _pairs(key="math.prod(shape[1:])"),
    "vectors_too": _pairs(keep="True"),
    "same_names": """
def pair_layers(student, teacher):
    return [(s, t) for s in student for t in teacher if s == t]
""",
    "one_after_the_other": "def pair_layers(student, teacher):\n    return list(zip(student, teacher))\n",
    "turned": _pairs("return [(t[k], s) for s in student for k in m if m[k] == s and k in t]"),
    "teachers_order": _pairs(
        "return [(m[k], name) for name in teacher for k in t if t[k] == name and k in m]"
    ),
    "order_of_sizes": _pairs("return [(m[k], t[k]) for k in m if k in t]"),
    "returns_dict": _pairs("return {s: t[k] for s in student for k in m if m[k] == s and k in t}"),
}

_PAIRS_RIGHT = [
    _pairs(),
    """
def pair_layers(student, teacher):
    def last(shapes, size):
        names = [name for name, shape in shapes.items() if len(shape) == 3 and tuple(shape[1:]) == size]
        return names[-1] if names else None
    pairs = []
    for name, shape in student.items():
        if len(shape) == 3 and last(student, tuple(shape[1:])) == name:
            partner = last(teacher, tuple(shape[1:]))
            if partner is not None:
                pairs.append((name, partner))
    return pairs
""",
    """
def pair_layers(student, teacher):
    found, done = [], set()
    theirs = {shape[1:]: name for name, shape in teacher.items() if len(shape) == 3}
    for name in reversed(list(student)):
        size = student[name][1:]
        if len(size) == 2 and size in theirs and size not in done:
            found.insert(0, (name, theirs[size]))
        done.add(size)
    return found
""",
]

WRONG = {
    "attention_map": _MAP_WRONG,
    "attention_loss": _LOSS_WRONG,
    "relational_distances": _DISTANCES_WRONG,
    "pair_layers": _PAIRS_WRONG,
}
RIGHT = {
    "attention_map": _MAP_RIGHT,
    "attention_loss": _LOSS_RIGHT,
    "relational_distances": _DISTANCES_RIGHT,
    "pair_layers": _PAIRS_RIGHT,
}
