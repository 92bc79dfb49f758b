"""The exercises of lesson 06: their points, tests, hints and forbidden names."""

from __future__ import annotations

from coursekit import pruning as reference
from coursekit.exercises.spec import Exercise
from coursekit.exercises.structured_pruning import mistakes_choice as choice
from coursekit.exercises.structured_pruning import mistakes_surgery as surgery
from coursekit.exercises.structured_pruning.properties import PUBLIC

__all__ = ["EXERCISES"]

FORBIDDEN = {
    "coursekit": "the reference is what you are writing",
    "torch_pruning": "write the steps yourself; the library comes at the end of the lesson",
    "prune": "torch.nn.utils.prune only writes zeros",
}

EXERCISES = (
    Exercise(
        "channel_importance", "06", 3, reference.channel_importance,
        PUBLIC["channel_importance"],
        (
            "weight[c] is everything that makes channel c. How many numbers should come out, and over which "
            "dimensions does the sum go?",
            "flatten(1) makes a row of every filter, for a convolution and a linear layer alike. Then a sum along "
            "the row, of magnitudes or of their squares.",
            "For p = 2 the root of the sum is left to take. If a scale came, its magnitude multiplies the result: a "
            "batch norm that multiplies by 0 makes any filter worthless.",
        ),
        surgery.CHANNEL_IMPORTANCE, surgery.importance_probes, FORBIDDEN,
    ),
    Exercise(
        "cut_conv_bn_conv", "06", 4, reference.cut_conv_bn_conv,
        PUBLIC["cut_conv_bn_conv"],
        (
            "Follow one channel on its way: which tensors hold a number for it? Count them; there are seven.",
            "Six of the eight tensors are as long as there are channels in dimension 0. One has them in dimension "
            "1, and one has nothing to do with them at all.",
            "tensor[keep] picks along dimension 0 and tensor[:, keep] along dimension 1. The bias of conv2 belongs "
            "to other channels.",
        ),
        surgery.CUT, surgery.cut_probes, FORBIDDEN,
    ),
    Exercise(
        "flat_indices", "06", 2, reference.flat_indices,
        PUBLIC["flat_indices"],
        (
            "Write down the features of a (1, 3, 2, 2) map by channel: which numbers has channel 1?",
            "Channel c takes `positions` features in a row. Where does its block start?",
            "A column of block starts plus a row 0 .. positions - 1 broadcasts to all of them at once; flatten "
            "reads it row by row.",
        ),
        surgery.FLAT_INDICES, surgery.flat_probes, FORBIDDEN,
    ),
    Exercise(
        "coupled_layers", "06", 4, reference.coupled_layers,
        PUBLIC["coupled_layers"],
        (
            "Begin with every layer in a group of its own. What does one addition do to two groups?",
            "It joins them, whole, whichever of their members it names. Give each group a leader, and a way to "
            "find it.",
            "Union-find: a dict that says whom each layer follows, first itself. The leader is found by following "
            "until somebody follows himself; an edge makes one leader follow the other.",
        ),
        choice.COUPLED, choice.coupled_probes, FORBIDDEN,
    ),
    Exercise(
        "conv_macs", "06", 2, reference.conv_macs,
        PUBLIC["conv_macs"],
        (
            "How many output values are there, and how many weights does each of them need?",
            "c_out maps of height times width values. A filter has a square of kernel weights for each channel it "
            "reads.",
            "With groups a filter reads only its share of the inputs, c_in over groups. Use // so that it stays an "
            "int.",
        ),
        choice.CONV_MACS, choice.macs_probes, FORBIDDEN,
    ),
    Exercise(
        "choose_channels", "06", 5, reference.choose_channels,
        PUBLIC["choose_channels"],
        (
            "A loop: while the chain costs too much, take away one channel. In each layer only the least important "
            "one left is a candidate.",
            "If the widths are w, with the input's and the output's at the ends, a channel of hidden layer i has "
            "neighbours w[i] before it and w[i + 2] behind it. What do the two layers cost per channel?",
            "Keep for every layer its channels sorted by importance, so that the candidate stands at the end and pop "
            "removes it. Work out the widths anew in every round, and sort what is left before you return it.",
        ),
        choice.CHOOSE, choice.choose_probes, FORBIDDEN,
    ),
)  # fmt: skip
