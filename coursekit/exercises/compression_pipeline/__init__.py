"""The exercises of lesson 15: their points, tests, hints and forbidden names."""

from __future__ import annotations

from coursekit import pipeline as reference
from coursekit.exercises.compression_pipeline import mistakes_choice as choice
from coursekit.exercises.compression_pipeline import mistakes_stages as stages
from coursekit.exercises.compression_pipeline.properties import PUBLIC
from coursekit.exercises.spec import Exercise

__all__ = ["EXERCISES"]

FORBIDDEN = {"coursekit": "the reference is what you are writing"}
FORBIDDEN_FRONT = {**FORBIDDEN, "pareto_front": "it is the function you are writing, under another name"}


EXERCISES = (
    Exercise(
        "run_pipeline", "15", 4, reference.run_pipeline,
        PUBLIC["run_pipeline"],
        (
            "Two things are needed to the end: the original, untouched, and the weights as they are now.",
            "For each step: clone every tensor of the current weights, run the step on the clones, measure what it "
            "returned. Which two are compared for the error?",
            "The sizes and the distance always have the original on one side, in every row. dict(weights) is a new "
            "dict "
            "around the same tensors, and a step may write into these.",
        ),
        stages.RUN_PIPELINE, stages.pipeline_probes, FORBIDDEN,
    ),
    Exercise(
        "bytes_by_part", "15", 3, reference.bytes_by_part,
        PUBLIC["bytes_by_part"],
        (
            "A sum for each kind of part, and at the end what is missing to the file's size.",
            "sums.get(part, 0) is 0 for a kind that you have not met yet.",
            "The header is the file's size less the sum of all sums. Can that be below 0, and what does it mean then?",
        ),
        stages.BYTES_BY_PART, stages.bytes_probes, FORBIDDEN,
    ),
    Exercise(
        "combined_ratio", "15", 3, reference.combined_ratio,
        PUBLIC["combined_ratio"],
        (
            "Count the bits before, count the bits after, divide.",
            "After: how many weights are left? What does each of them cost, and what does the codebook cost besides?",
            "Each weight that is left has an index and a position; each entry of the codebook is a number of 32 bits.",
        ),
        stages.COMBINED_RATIO, stages.ratio_probes, FORBIDDEN,
    ),
    Exercise(
        "accuracy_front", "15", 3, reference.accuracy_front,
        PUBLIC["accuracy_front"],
        (
            "Go through the candidates from the smallest file to the largest. When is one worth its bytes?",
            "If it is more accurate than everything smaller. So remember the best accuracy so far.",
            "Sort by bytes, and for equal bytes by falling accuracy; sorting keeps the order of equals. Then keep "
            "what is "
            "strictly better than the best so far.",
        ),
        choice.ACCURACY_FRONT, choice.front_probes, FORBIDDEN_FRONT,
    ),
    Exercise(
        "choose_candidate", "15", 3, reference.choose_candidate,
        PUBLIC["choose_candidate"],
        (
            "First who may take part, then who wins.",
            "max with a key: a tuple compares its first entries, and the second ones where these are equal.",
            "Accuracy first; then, as fewer bytes are better and max wants more, the bytes with a minus.",
        ),
        choice.CHOOSE_CANDIDATE, choice.choice_probes, FORBIDDEN_FRONT,
    ),
    Exercise(
        "unpack_container", "15", 4, reference.unpack_container,
        PUBLIC["unpack_container"],
        (
            "Check before you believe: length, magic, checksum, then the table, then whether it all adds up.",
            "struct.unpack_from('<I', raw, at) gives a tuple of one number. zlib.crc32(raw[8:]) is what bytes 4 to 7 "
            "should "
            "say.",
            "Read the whole table first, names and sizes. Where you are then plus the sum of the sizes must be exactly "
            "len(raw): not less, not more. What the table's own reading raises is no ValueError unless you make it "
            "one.",
        ),
        choice.UNPACK_CONTAINER, choice.container_probes, FORBIDDEN,
    ),
)  # fmt: skip
