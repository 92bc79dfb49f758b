"""The exercises of lesson 09: their points, tests, hints and forbidden names."""

from __future__ import annotations

from coursekit import distillation as reference
from coursekit.exercises.feature_distillation import mistakes_features as networks
from coursekit.exercises.feature_distillation import mistakes_maps as maps
from coursekit.exercises.feature_distillation.properties import PUBLIC
from coursekit.exercises.spec import Exercise

__all__ = ["EXERCISES"]

FORBIDDEN = {
    "coursekit": "the reference is what you are writing",
    "feature_extraction": "write the hooks yourself; torchvision's extractor comes at the end of the lesson",
    "create_feature_extractor": "write the hooks yourself; this comes at the end of the lesson",
}

EXERCISES = (
    Exercise(
        "capture_features", "09", 4, reference.capture_features,
        PUBLIC["capture_features"],
        (
            "named_modules() gives every module its whole name, at any depth. What you need is a dict of these, one "
            "hook for each name, one call of the network, and the hooks gone again.",
            "A hook made in a loop sees the loop's last name, unless the name is an argument with a default: "
            "def hook(module, inputs, output, name=name). And if the module behind works in place, what will it do to "
            "the tensor you keep?",
            "Keep output.clone(). Collect what register_forward_hook returns in a list, put the network's call into "
            "try:, and remove every one of them in finally:. known[name] raises by itself for a wrong name.",
        ),
        networks.CAPTURE, networks.capture_probes, FORBIDDEN, (reference.capture,), "features.seen",
    ),
    Exercise(
        "hint_stage", "09", 4, reference.hint_stage,
        PUBLIC["hint_stage"],
        (
            "Three networks, of which two learn. Which parameters does the optimizer need, and which mode does each "
            "network run in?",
            "The target never changes: compute it once, in eval mode and under torch.no_grad(), before the loop. Then "
            "torch.optim.SGD over the parameters of the two that learn.",
            "In each step: the loss from regressor(guided(images)), keep its item(), zero_grad, backward, step. The "
            "loss is a mean over all elements, halved.",
        ),
        networks.HINT_STAGE, networks.hint_probes, FORBIDDEN,
    ),
    Exercise(
        "attention_map", "09", 4, reference.attention_map,
        PUBLIC["attention_map"],
        (
            "Four dimensions come in: images, channels, height, width. Which one disappears, and which two become one?",
            "Square, sum over the channels, flatten what is left of each image, divide each row by its length.",
            "torch.nn.functional.normalize divides by the length along a dimension and leaves a row of zeros alone. "
            "Which dimension is one image's row?",
        ),
        maps.ATTENTION_MAP, maps.map_probes, FORBIDDEN,
    ),
    Exercise(
        "attention_loss", "09", 3, reference.attention_loss,
        PUBLIC["attention_loss"],
        (
            "Both maps have length 1 and the same size, if you see to it. Then it is a distance between rows, one for "
            "each image.",
            "F.adaptive_avg_pool2d shrinks the sums of squares to any height and width. It comes before the division "
            "by the length, as it changes the length.",
            "The size is the minimum of both heights and of both widths. At the end .norm(dim=1) gives a length for "
            "each image; average these.",
        ),
        maps.ATTENTION_LOSS, maps.loss_probes, FORBIDDEN,
    ),
    Exercise(
        "relational_distances", "09", 3, reference.relational_distances,
        PUBLIC["relational_distances"],
        (
            "Subtract every row from every row: with the right two views, one subtraction does them all.",
            "points[:, None] - points[None] is (N, N, D). Its length along the last dimension is the matrix of "
            "distances.",
            "The mean counts pairs of different images only. The diagonal adds nothing to the sum, but its N entries "
            "must not be counted.",
        ),
        maps.DISTANCES, maps.distance_probes, FORBIDDEN,
    ),
    Exercise(
        "pair_layers", "09", 3, reference.pair_layers,
        PUBLIC["pair_layers"],
        (
            "For each network make a dict from (height, width) to a layer. What happens in a dict when a key comes "
            "again?",
            "Writing to the same key keeps the last layer of that size. Only shapes of three numbers are maps.",
            "Then go through the student's layers in order: one that is the last of its size, where the teacher has "
            "that size too, makes a pair.",
        ),
        maps.PAIR_LAYERS, maps.pair_probes, FORBIDDEN,
    ),
)  # fmt: skip
