"""The tables and plots of `benchmarks/distillation.py`, and the curves that the lessons on distillation ship."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from coursekit import plot, zoo

ROOT = Path(__file__).resolve().parents[1]
RESULTS, ASSET = ROOT / "benchmarks" / "results", ROOT / "coursekit" / "assets" / "distillation_curves.json"
SCRIPT = "python benchmarks/distillation.py"
Rows = Mapping[str, Mapping[str, Any]]

NAMES = {
    "alone": "student alone",
    "smoothing": "label smoothing, 0.1",
    "kd": "KD from ResNet-20",
    "hints": "KD with a hint",
    "attention": "attention transfer",
    "kd-attention": "KD with attention transfer",
    "ensemble": "KD from three teachers",
    "mutual": "one of a mutual pair",
    "hint-first": "a hint, then KD, as FitNets",
    "progressive": "KD in stages, soft at first",
    "assistant": "KD by an assistant of ResNet-20",
}
# Papers: what the same way did for the student there. FitNets' table 4 (MNIST); Zagoruyko and Komodakis's WRN-16-1 from
# WRN-16-2 on CIFAR-10; Zhang et al.'s pair of ResNet-32 on CIFAR-100.
PAPER = {
    "alone": "FitNets, MNIST, 30K parameters: error 1.9 %",
    "kd": "FitNets: 1.9 → 0.65 %; WRN-16-1: 8.77 → 7.41 %",
    "hint-first": "FitNets: 1.9 → 0.51 % (0.65 % without)",
    "attention": "WRN-16-1: 8.77 → 7.93 %",
    "kd-attention": "WRN-16-1: 8.77 → 7.51 % (7.41 % without)",
    "mutual": "ResNet-32, CIFAR-100: accuracy 68.99 → 71.19/70.75 %",
}
TEXT = """# Distillation on Fashion-MNIST

{machine}. Made by `{script}`; all runs together took {minutes:.0f} minutes of one core.
Accuracy on all 10,000 test images, last weights, mean ± sample standard deviation over seeds. A seed draws a student's
first weights and the order of its images. Settings were chosen with another seed on 5,000 held-out training images:

{choices}
## A student of 19,810 parameters, in the manner of FitNets' table 4

Teacher: ResNet-20, 272,186 parameters, {teacher:.2%}. Student: ResNet-8 of width 8 on images halved by its first
convolution. All rows: the same {few:,} training images, {epochs} epochs, no augmentation, one recipe. The teacher was
trained on all 60,000 images, augmented: part of what it passes on, it learned there. Not blind: the table was meant for
10,000 images and 4 epochs, and became one of {few:,} after seed 0 there had been seen on the test images, KD not above
the student alone (next section). The settings are still those chosen on 10,000 images. A pair trains
two networks, of which the first counts; the assistant, twice as wide, is taught for as many epochs before it teaches.

{table}
{verdict}

![gains](distillation.png)

## With more training images

{full}
## Hinton's missing class

No dress in the transfer set: 9,000 images are left. Errors on the 10,000 test images, of which 1,000 are dresses,
before and after one number is added to the logit of that class. The number makes dresses as common among the
predictions for the held-out images as they are there; it needs no image's label. Hinton et al. on MNIST, no 3 in the
transfer set: 206 errors, with a corrected bias 109.

{missing}
## A twentieth of the teacher's bytes

{twenty}
"""

TWENTY = """Mean ± sd over the seeds; the largest file counts. Bytes: `os.path.getsize` of the teacher's float32 file
in the zoo, and of the student's by `artifact.save`, weights rounded to 8 bits with a scale a channel. Accuracy: of what
`artifact.load` gives back.
"""


def machine() -> str:
    """The processor's name, and how many cores are there."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return f"{line.split(':', 1)[1].strip()}, {os.cpu_count()} cores, one thread"
    return f"{platform.processor()}, one thread"


def by_seed(rows: Rows, prefix: str, value: str = "accuracy") -> dict[int, float]:
    """Seed to the value of the row `prefix-seed`."""
    found = {key: row for key, row in rows.items() if key.rpartition("-")[0] == prefix}
    return {int(key.rpartition("-")[2]): row[value] for key, row in sorted(found.items())}


def spread(values: Mapping[int, float]) -> tuple[float, float]:
    """Mean and sample standard deviation; 0 for a single value."""
    numbers = list(values.values())
    return statistics.fmean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else 0.0


def gains(values: Mapping[int, float], control: Mapping[int, float]) -> dict[int, float]:
    """Seed by seed, what a row has above the control: both began with the same weights and order."""
    return {seed: value - control[seed] for seed, value in values.items() if seed in control}


def cell(values: Mapping[int, float], sign: bool = False) -> str:
    """Mean ± sd in per cent, with the number of seeds where it is not three."""
    if not values:
        return "–"
    mean, deviation = spread(values)
    few = "" if len(values) == 3 else f" (n = {len(values)})"
    text = f"{100 * mean:+.2f}" if sign else f"{100 * mean:.2f}"
    return f"{text} ± {100 * deviation:.2f}{few}" if len(values) > 1 else f"{text}{few}"


def table(head: list[str], body: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def ways_table(rows: Rows, part: str) -> str:
    """Each way's accuracy, its gain over the control seed by seed, and the paper's."""
    control = by_seed(rows, f"{part}/alone")
    body = []
    for way, name in NAMES.items():
        values = by_seed(rows, f"{part}/{way}")
        if values:
            gain = "" if way == "alone" else cell(gains(values, control), sign=True)
            body.append([name, cell(values), gain, PAPER.get(way, "") if part == "rows" else ""])
    return table(["", "accuracy, %", "above alone, seed by seed", "paper"], body)


def more_text(rows: Rows, n: int, epochs: int) -> str:
    """The table at another number of training images, if it was measured."""
    measured = bool(by_seed(rows, f"{n}/alone"))
    return f"{n:,} images, {epochs} epochs:\n\n{ways_table(rows, str(n)) if measured else 'Not measured.'}\n"


def verdict(rows: Rows) -> str:
    """What is beyond its spread, in words, from the numbers."""
    control = by_seed(rows, "rows/alone")
    beyond, within, against = [], [], []
    kd = by_seed(rows, "rows/kd")
    for way, name in NAMES.items():
        values = by_seed(rows, f"rows/{way}")
        if way == "alone" or len(gains(values, control)) < 3:
            continue
        mean, deviation = spread(gains(values, control))
        (beyond if mean > 2 * deviation else within).append(name)
        if way not in ("smoothing", "kd", "attention", "mutual") and len(gains(values, kd)) >= 3:
            more, off = spread(gains(values, kd))
            if more <= off:
                against.append(f"{name} ({100 * more:+.2f} ± {100 * off:.2f})")
    if not beyond + within:
        return "Not every row has its three seeds yet."
    text = "The gain is more than two of its standard deviations for: "
    text += f"{'; '.join(beyond) or 'none'}. "
    text += f"It is not for: {'; '.join(within) or 'none'}.\n\n"
    return (
        text
        + f"No better than plain KD, seed by seed, beyond one standard deviation: {', '.join(against) or 'none'}."
    )


def choices_table(rows: Rows) -> str:
    """The settings tried, by accuracy on held-out images."""
    found = [
        (key.removeprefix("choose/"), row["held_out"])
        for key, row in rows.items()
        if key.startswith("choose/")
    ]
    body = [[name.replace("-", " "), f"{100 * value:.2f}"] for name, value in found]
    return table(["tried, seed 100, 10,000 images", "held-out accuracy, %"], body)


def missing_table(rows: Rows) -> str:
    """Errors before and after, of the student alone and of the taught one."""
    body = []
    for way, name in {"alone": "labels alone", "taught": "taught by ResNet-20 alone, no labels"}.items():
        found = [row for key, row in sorted(rows.items()) if key.startswith(f"missing/{way}-")]
        cells = []
        for when in ("before", "after"):
            for what in ("errors", "on_the_class"):
                values = [row[when][what] for row in found]
                cells.append(
                    f"{statistics.fmean(values):.0f} ± {statistics.stdev(values):.0f}"
                    if len(values) > 1
                    else "–"
                )
        bias = statistics.fmean(row["bias"] for row in found) if found else float("nan")
        body.append([name, *cells, f"{bias:.2f}"])
    if not any(key.startswith("missing/") for key in rows):
        return "Not measured.\n"
    return table(["", "errors before", "on dresses", "errors after", "on dresses", "bias"], body)


def twenty_text(rows: Rows) -> str:
    """Small students beside their teachers, and beside themselves untaught."""
    found = [row for key, row in sorted(rows.items()) if key.startswith("twenty/")]
    body = []
    for name in dict.fromkeys(row["teacher"] for row in found):
        own = [row for row in found if row["teacher"] == name]
        taught, alone = (
            {row["recipe"]["seed"]: row["accuracy"] for row in own if row.get("taught", True) is which}
            for which in (True, False)
        )
        row = own[0]
        body.append([
            f"{name}, {row['teacher_bytes']:,}",
            f"{100 * row['teacher_accuracy']:.2f}",
            f"{row['parameters']:,} parameters, {max(each['bytes'] for each in own):,}",
            cell(taught),
            cell(alone),
            f"{row['teacher_bytes'] / max(each['bytes'] for each in own):.1f}",
            f"{spread(taught)[0] / row['teacher_accuracy']:.2%}",
            f"{row['recipe']['epochs']} of 55,000 images",
        ])  # fmt: skip
    if not body:
        return "Not measured.\n"
    head = [
        "teacher, bytes",
        "accuracy, %",
        "student, bytes",
        "taught, %",
        "alone, %",
        "times smaller",
        "kept",
        "epochs",
    ]
    return f"{table(head, body)}\n{TWENTY}"


def draw(rows: Rows) -> None:
    """Each way's gain over the control."""
    control = by_seed(rows, "rows/alone")
    found = {
        name: gains(by_seed(rows, f"rows/{way}"), control) for way, name in NAMES.items() if way != "alone"
    }
    found = {name: values for name, values in found.items() if values}
    figure, panel = plt.subplots(figsize=(8, 4.2), layout="constrained")
    for place, values in enumerate(found.values()):
        mean, deviation = spread(values)
        panel.errorbar(100 * mean, place, xerr=100 * deviation, fmt="o", color=plot.PALETTE[0], capsize=4)
        points = [100 * v for v in values.values()]
        panel.plot(points, [place] * len(points), "|", color="#6E6E6E", markersize=9)
    panel.axvline(0, color="#6E6E6E", linestyle=":")
    panel.set_yticks(range(len(found)), list(found))
    panel.invert_yaxis()
    panel.set_xlabel("points of accuracy above the same student alone, seed by seed; mean ± sd")
    panel.set_title("What each way adds to a student of 19,810 parameters", loc="left", weight="bold")
    panel.grid(axis="x", color="#DDDDDD")
    figure.savefig(RESULTS / "distillation.png", dpi=110)


def asset_of(rows: Rows) -> dict[str, Any]:
    """What the lessons load."""

    def part(name: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for way, label in NAMES.items():
            values = by_seed(rows, f"{name}/{way}")
            if values:
                mean, deviation = spread(values)
                first = rows.get(f"{name}/{way}-0", {}).get("curves", {})
                curves = {key: [round(v, 4) for v in curve] for key, curve in first.items()}
                found[way] = {"label": label, "accuracy": list(values.values()), "mean": round(mean, 5),
                              "sd": round(deviation, 5), "seeds": list(values), "curves": curves}  # fmt: skip
        return found

    lost = {key.removeprefix("missing/"): {k: row[k] for k in ("before", "after", "bias")}
            for key, row in rows.items() if key.startswith("missing/")}  # fmt: skip
    twenty = {
        k: v for k, v in rows.get("twenty/result", {}).items() if k not in ("curves", "key", "cpu_seconds")
    }
    return {"script": SCRIPT, "machine": machine(), "teacher": zoo.card("resnet20")["test_accuracy"],
            "rows": part("rows"), "10000": part("10000"), "55000": part("55000"),
            "missing": lost, "twenty": twenty}  # fmt: skip


def report(rows: Rows, few: int, epochs: int, more: Mapping[int, int]) -> None:
    """Writes distillation.json, .md and .png, and the lessons' asset, from whatever was measured."""
    RESULTS.joinpath("distillation.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    ASSET.write_text(json.dumps(asset_of(rows), indent=1) + "\n", encoding="utf-8")
    draw(rows)
    text = TEXT.format(
        machine=machine(),
        script=SCRIPT,
        minutes=sum(row.get("cpu_seconds", 0.0) for row in rows.values()) / 60,
        choices=choices_table(rows),
        teacher=zoo.card("resnet20")["test_accuracy"],
        epochs=epochs,
        few=few,
        table=ways_table(rows, "rows"),
        verdict=verdict(rows),
        full="\n".join(more_text(rows, n, e) for n, e in more.items()),
        missing=missing_table(rows),
        twenty=twenty_text(rows),
    )
    RESULTS.joinpath("distillation.md").write_text(text, encoding="utf-8")
