"""The tables and plots of `benchmarks/pruning.py`, and the curves that lesson 07 ships."""

from __future__ import annotations

import json
import math
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
RESULTS, ASSET = ROOT / "benchmarks" / "results", ROOT / "coursekit" / "assets" / "pruning_curves.json"
SCRIPT = "python benchmarks/pruning.py"
Rows = Mapping[str, Mapping[str, Any]]
KINDS = {
    "winning": "winning ticket",
    "reinit": "same masks, new weights",
    "random": "same weights, random masks",
}
# Frankle and Carbin 2019, section 2 and figures 3 and 4: LeNet-300-100 on MNIST, 50,000 steps.
PAPER = {
    "21.1 %": "early stopping 38 % sooner than dense; 2.51 times sooner, and half a point better, than re-initialised",
    "13.5 %": "accuracy 0.3 points above dense",
    "3.6 %": "accuracy back at dense",
}

FRONTIER = """## The frontier on LeNet-300-100 (dense {dense:.2%})

Equal budgets: one epoch of 60,000 images, whether pruned before it or, along the cubic schedule, during its first
half.

{frontier}
![frontier](pruning-frontier.png)

"""


def machine() -> str:
    """The processor's name, and how many cores are there."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return f"{line.split(':', 1)[1].strip()}, {os.cpu_count()} cores, one thread"
    return f"{platform.processor()}, one thread"


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and sample standard deviation; 0 for a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def by_seed(rows: Rows, prefix: str, value: str = "accuracy") -> dict[int, float]:
    """Seed to the value of the row `prefix/seed`."""
    found = {key: row for key, row in rows.items() if key.rpartition("/")[0] == prefix}
    return {int(key.rpartition("/")[2]): row[value] for key, row in sorted(found.items())}


def curve(points: list[dict[int, float]]) -> dict[str, list[float]]:
    """Mean and standard deviation over the seeds at each point."""
    pairs = [spread(list(values.values())) for values in points]
    return {"mean": [round(m, 5) for m, _ in pairs], "sd": [round(d, 5) for _, d in pairs]}


def cell(values: Mapping[int, float]) -> str:
    """Mean ± sd in per cent, with the number of seeds where it is not three."""
    if not values:
        return "–"
    mean, deviation = spread(list(values.values()))
    few = "" if len(values) == 3 else f" (n = {len(values)})"
    return f"{100 * mean:.2f} ± {100 * deviation:.2f}{few}" if len(values) > 1 else f"{100 * mean:.2f}{few}"


def table(head: list[str], body: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def tickets_part(rows: Rows) -> tuple[str, dict[str, Any]]:
    """The table of tickets, and their curves at the sizes whose controls were trained."""
    rounds = sorted({int(key.split("/")[2]) for key in rows if key.startswith("ticket/winning/")})
    kept = {r: next(iter(by_seed(rows, f"ticket/winning/{r}", "kept").values())) for r in rounds}
    later = any(key.startswith("late/") for key in rows)
    head = ["weights kept", *KINDS.values(), "best step: winning", "best step: new weights"]
    head += ["rewound to step 100"] if later else []
    body = []
    for r in rounds:
        cells = [cell(by_seed(rows, f"ticket/{kind}/{r}")) for kind in KINDS]
        steps = [by_seed(rows, f"ticket/{kind}/{r}", "best_step") for kind in ("winning", "reinit")]
        best = [f"{statistics.fmean(s.values()):.0f}" if s else "–" for s in steps]
        late = [cell(by_seed(rows, f"late/winning/{r}"))] if later else []
        body.append([f"{kept[r]:.1%}", *cells, *best, *late])
    both = [r for r in rounds if by_seed(rows, f"ticket/reinit/{r}")]
    curves: dict[str, Any] = {}
    for kind, name in KINDS.items():
        curves[name] = curve([by_seed(rows, f"ticket/{kind}/{r}") for r in both])
    dense = spread(list(by_seed(rows, "ticket/winning/0").values()))
    asset = {
        "recipe": "LeNet-300-100, Fashion-MNIST, 1,000 steps of Adam (1.2e-3, 60 images) and 20 % a round",
        "seeds": sorted(by_seed(rows, f"ticket/winning/{rounds[-1]}")),
        "rounds": both,
        "kept": [round(kept[r], 4) for r in both],
        "curves": curves,
        "dense": {"mean": round(dense[0], 5), "sd": round(dense[1], 5)},
        "all_kept": [round(kept[r], 4) for r in rounds],
        "all_winning": curve([by_seed(rows, f"ticket/winning/{r}") for r in rounds])["mean"],
    }
    return table(head, body), asset


def frontier_part(rows: Rows, sparsities: tuple[float, ...]) -> tuple[str, dict[str, Any]]:
    """The table of every way at every sparsity on LeNet-300-100, and its curves."""
    ways = sorted({"/".join(key.split("/")[1:4]) for key in rows if key.startswith("frontier/")})
    cells = {way: [by_seed(rows, f"frontier/{way}/{s}") for s in sparsities] for way in ways}
    body = [[way.replace("/", " "), *map(cell, cells[way])] for way in ways]
    curves = {way.replace("/", " "): curve(cells[way]) for way in ways if all(cells[way])}
    asset = {
        "network": "LeNet-300-100 on Fashion-MNIST, one epoch of fine-tuning after or while pruning",
        "seeds": sorted({int(key.rpartition("/")[2]) for key in rows if key.startswith("frontier/")}),
        "dense": zoo.card("lenet300")["test_accuracy"],
        "sparsities": list(sparsities),
        "ways": curves,
    }
    return table(["score, scope, way", *(f"{s:.0%}" for s in sparsities)], body), asset


def resnet_part(rows: Rows, sparsities: tuple[float, ...]) -> str:
    """Question 6 and the shorter looks at ResNet-20."""
    dense, seeds = zoo.card("resnet20")["test_accuracy"], by_seed(rows, "resnet/0.9")
    text = f"Dense {dense:.2%}; at 90 % sparsity {cell(seeds)} (seeds {', '.join(map(str, seeds))}: "
    text += ", ".join(f"{a:.2%}" for a in seeds.values()) + ").\n\n"
    head = [f"{s:.0%}" for s in sparsities]
    cut = sorted({"/".join(key.split("/")[1:3]) for key in rows if key.startswith("resnet-cut/")})
    if cut:
        body = []
        for way in cut:
            found = [rows.get(f"resnet-cut/{way}/{s}") for s in sparsities]
            body.append([
                way.replace("/", " "),
                *(f"{100 * row['accuracy']:.2f}" if row else "–" for row in found),
            ])
        text += "Cut at once, no training:\n\n" + table(["score, scope", *head], body)
    short = sorted({"/".join(key.split("/")[1:4]) for key in rows if key.startswith("resnet-short/")})
    if short:
        body = [
            [w.replace("/", " "), *(cell(by_seed(rows, f"resnet-short/{w}/{s}")) for s in sparsities)]
            for w in short
        ]
        text += "\nTwo epochs of 10,000 images:\n\n" + table(["score, scope, way", *head], body)
    return text


def draw_frontier(asset: Mapping[str, Any]) -> None:
    """All twelve ways in one figure: a panel a scope, a colour a score, a line style a way."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.4), sharey=True, layout="constrained")
    colours = dict(zip(("magnitude", "gradient", "random"), plot.PALETTE, strict=False))
    for panel, scope in zip(panels, ("layer", "global"), strict=True):
        for way, points in asset["ways"].items():
            score, where, how = way.split()
            if where == scope:
                style = {
                    "color": colours[score],
                    "linestyle": "-" if how == "iterative" else "--",
                    "capsize": 2,
                }
                panel.errorbar(
                    asset["sparsities"], points["mean"], points["sd"], label=f"{score}, {how}", **style
                )
        panel.axhline(asset["dense"], color="#6E6E6E", linestyle=":", label="dense")
        panel.set_title(f"{scope} scope", loc="left", weight="bold")
        panel.set_xlabel("sparsity")
        panel.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
        panel.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
        panel.grid(color="#DDDDDD")
    panels[0].set_ylabel("accuracy on 10,000 images")
    panels[1].legend(frameon=False, fontsize=9)
    figure.savefig(RESULTS / "pruning-frontier.png", dpi=110)


def draw_tickets(asset: Mapping[str, Any]) -> None:
    """Tickets and controls over the share of weights kept, with the sizes that the paper names."""
    figure, panel = plt.subplots(figsize=(7.5, 4.4), layout="constrained")
    panel.plot(asset["all_kept"], asset["all_winning"], color=plot.PALETTE[0], linewidth=1)
    for colour, marker, (name, points) in zip(plot.PALETTE, "os^", asset["curves"].items(), strict=False):
        panel.errorbar(
            asset["kept"], points["mean"], points["sd"], color=colour, marker=marker, capsize=3, label=name
        )
    panel.axhline(asset["dense"]["mean"], color="#6E6E6E", linestyle=":", label="dense")
    for share in (0.211, 0.135, 0.036):
        panel.axvline(share, color="#BBBBBB", linewidth=0.8)
        bottom = panel.get_ylim()[0]
        panel.annotate(
            f"paper: {share:.1%}", (share, bottom), rotation=90, fontsize=8, va="bottom", ha="right"
        )
    panel.set_xscale("log")
    panel.invert_xaxis()
    panel.set_xlabel("share of weights kept")
    panel.set_ylabel("accuracy on 10,000 images")
    panel.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
    panel.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
    panel.legend(frameon=False)
    figure.savefig(RESULTS / "pruning-tickets.png", dpi=110)


def report(rows: Rows, sparsities: tuple[float, ...]) -> None:
    """Writes pruning.md, the two plots, and the asset of lesson 07, from whatever was measured."""
    tickets, ticket_asset = tickets_part(rows)
    frontier, frontier_asset = frontier_part(rows, sparsities)
    asset = {"script": SCRIPT, "machine": machine(), "tickets": ticket_asset,
             "resnet20": by_seed(rows, "resnet/0.9")}  # fmt: skip
    draw_tickets(ticket_asset)
    if frontier_asset["ways"]:
        asset["frontier"] = frontier_asset
        draw_frontier(frontier_asset)
    ASSET.write_text(json.dumps(asset, indent=1) + "\n", encoding="utf-8")
    minutes = sum(row.get("cpu_seconds", 0.0) for row in rows.values()) / 60
    middle = (
        FRONTIER.format(dense=frontier_asset["dense"], frontier=frontier) if frontier_asset["ways"] else ""
    )
    paper = "\n".join(f"- {share}: {what}" for share, what in PAPER.items())
    text = f"""# Pruning

`{SCRIPT}` on Fashion-MNIST, {machine()}; {math.ceil(minutes)} core-minutes for
{len(rows)} runs. Accuracy on all 10,000 test images in per cent, mean ± sample standard deviation over seeds 0, 1, 2.
The test set chose nothing.

## ResNet-20 (question 6: 90 % sparsity within one point)

{resnet_part(rows, sparsities)}
{middle}## Lottery tickets

{ticket_asset["recipe"]}. Best step: that of the smallest loss on
5,000 held-out training images.

{tickets}
The paper (LeNet-300-100 on MNIST, 50,000 steps a round), with the winning ticket rewound to step 0:

{paper}

![tickets](pruning-tickets.png)
"""
    (RESULTS / "pruning.md").write_text(text, encoding="utf-8")
    print(text)
