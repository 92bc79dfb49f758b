"""The tables and the plot of what benchmarks/quantization.py measured: results/quantization.md and .png.

python benchmarks/quantization_report.py
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import matplotlib.pyplot as plt  # noqa: E402
import torch  # noqa: E402

from coursekit import plot  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
NOISE = """
The images are normalised, so standard normal noise has a range that holds theirs: on the first 200 test images no input
value is clipped, and in the networks only the highest logits are, 2 to 6 % of all logits. benchmarks/calibration.py has
4 bits, other noise and other observers.
"""
BUSY = """
int8 / fp32 is the median over rounds in which both ran one after the other; other work kept the machine busy (load
about 13 on 2 cores), so the last two columns, medians of 10 rounds, are rough.
"""
Runs = dict[str, list[dict[str, Any]]]  # network -> one result a seed


def machine() -> str:
    model = "processor unknown"
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8").splitlines()
        names = [line.split(":")[1].strip() for line in lines if "model name" in line]
        model = f"{names[0]}, {len(names)} cores" if names else model
    return f"{model}; one thread; Python {platform.python_version()}, PyTorch {torch.__version__}"


def by_network(part: dict[str, dict[str, Any]]) -> Runs:
    result: Runs = {}
    for key, value in sorted(part.items()):
        result.setdefault(key.split("/")[0], []).append(value)
    return result


def exact_by_network(part: dict[str, dict[str, Any]]) -> Runs:
    """One result a seed, added up from those of its images."""
    seeds: dict[str, list[dict[str, Any]]] = {}
    for key, value in sorted(part.items()):
        seeds.setdefault("/".join(key.split("/")[:2]), []).append(value)
    return by_network({key: _added(chunks) for key, chunks in seeds.items()})


def _added(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    images = sum(each["images"] for each in chunks)
    result: dict[str, Any] = {"images": images}
    for key, value in chunks[0].items():
        if key.endswith("_accuracy"):
            result[key] = sum(each[key] * each["images"] for each in chunks) / images
        elif isinstance(value, dict) and "total" in value:
            result[key] = {
                name: (max if name == "largest" else sum)(each[key][name] for each in chunks)
                for name in value
            }
    return result


def percent(values: list[float]) -> str:
    """Mean ± standard deviation, in per cent or points."""
    mean = round(100 * statistics.mean(values), 2) + 0.0  # no minus zero
    if len(values) == 1:
        return f"{mean:.2f}"
    return f"{mean:.2f} ± {100 * statistics.stdev(values):.2f}"


def table(headings: list[str], rows: list[list[Any]]) -> str:
    lines = [headings, ["---"] + ["---:"] * (len(headings) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def exactness(runs: Runs) -> str:
    rows = []
    for name, seeds in runs.items():

        def added(view: str, key: str, seeds: list[dict[str, Any]] = seeds) -> int:
            return sum(each[view][key] for each in seeds)

        def worst(view: str, seeds: list[dict[str, Any]] = seeds) -> int:
            return max(each[view]["largest"] for each in seeds)

        rows.append([
            f"{name}, {len(seeds)} {'draws' if len(seeds) > 1 else 'draw'}, {seeds[0]['images']:,} images each",
            f"{added('fake_all_layers', 'unequal')} of {added('fake_all_layers', 'total'):,}",
            f"{added('usual_fake_logits', 'unequal'):,} ({worst('usual_fake_logits')})",
            f"{added('ort_layer_alone_all_layers', 'unequal'):,} of {added('ort_layer_alone_all_layers', 'total'):,}"
            f" ({worst('ort_layer_alone_all_layers')})",
            f"{added('ort_logits', 'unequal'):,} of {added('ort_logits', 'total'):,} ({worst('ort_logits')})",
            added("ort_logits", "beyond_one"),
        ])  # fmt: skip
    headings = [
        "network", "fake-quantized view: unequal codes, all layers",
        "usual float32 fake quantization: unequal logits (largest difference)",
        "ONNX Runtime, each layer on our codes: unequal (largest)",
        "ONNX Runtime, whole network: unequal logits (largest)", "of these beyond one step",
    ]  # fmt: skip
    return table(headings, rows)


def accuracies(runs: Runs) -> str:
    rows = []
    for name, seeds in runs.items():
        fp32, ours, theirs = ([e[f"{key}_accuracy"] for e in seeds] for key in ("float", "integer", "ort"))
        loss = [a - b for a, b in zip(fp32, ours, strict=True)]
        apart = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
        rows.append([
            name,
            f"{100 * fp32[0]:.2f}",
            percent(ours),
            percent(loss),
            percent(theirs),
            f"{100 * apart:.2f}",
        ])
    rows.append(["paper: ResNet-50, ImageNet (Jacob 2018, table 4.1, trained with quantization)", "76.4", "74.9", "1.5",
                 "", ""])  # fmt: skip
    rows.append([
        "paper: ResNet-50, ImageNet (Krishnamoorthi 2018, table 3, after training)",
        "75",
        "75",
        "0",
        "",
        "",
    ])
    return table(
        ["network", "fp32, %", "int8, %", "loss, points", "ONNX Runtime int8, %", "largest difference"], rows
    )


def calibrations(runs: Runs, floats: dict[str, float]) -> str:
    rows = []
    for name, seeds in runs.items():
        real, noise = ([each[kind] for each in seeds] for kind in ("real", "noise"))
        gap = [a - b for a, b in zip(real, noise, strict=True)]
        rows.append([name, f"{100 * floats[name]:.2f}", percent(real), percent(noise), percent(gap)])
    return table(
        ["network", "fp32, %", "500 training images, %", "500 images of noise, %", "gap, points"], rows
    )


def sizes(part: dict[str, Any]) -> str:
    rows = [
        [name, f"{s['float']:,}", f"{s['int8']:,}", f"{s['float'] / s['int8']:.2f}", f"{s['float_onnx']:,}",
         f"{s['int8_onnx']:,}", f"{s['float_onnx'] / s['int8_onnx']:.2f}"]
        for name, s in sorted(part.items())
    ]  # fmt: skip
    return table(
        ["network", "fp32, bytes", "int8, bytes", "times smaller", "ONNX fp32", "ONNX int8", "times smaller"],
        rows,
    )


def latencies(part: dict[str, Any]) -> str:
    rows = []
    for key, measured in sorted(part.items()):
        name, batch = key.split("/")
        fp32, int8 = measured["ort_float"], measured["ort_int8"]
        eager, ours = (measured[each]["ratio"] for each in ("pytorch_float", "ours_in_pytorch"))
        rows.append([name, batch, f"{fp32['min_ms']:.3f}", f"{int8['min_ms']:.3f}", f"{int8['ratio']:.2f}",
                     f"{eager:.2f}", f"{ours:.2f}"])  # fmt: skip
    headings = ["network", "batch", "ORT fp32, fastest ms", "ORT int8, fastest ms", "int8 / fp32",
                "PyTorch fp32 / ORT fp32", "our integers in PyTorch / ORT fp32"]  # fmt: skip
    return table(headings, rows)


def dynamics(part: dict[str, Any]) -> str:
    rows = [
        [name, f"{100 * d['float_accuracy']:.2f}", f"{100 * d['dynamic_accuracy']:.2f}", f"{d['float_bytes']:,}",
         f"{d['dynamic_bytes']:,}", f"{d['float_bytes'] / d['dynamic_bytes']:.2f}", f"{d['ratio_batch_1']:.2f}",
         f"{d['ratio_batch_100']:.2f}"]
        for name, d in sorted(part.items())
    ]  # fmt: skip
    headings = ["network", "fp32, %", "dynamic, %", "fp32, bytes", "dynamic, bytes", "times smaller",
                "time, batch 1", "time, batch 100"]  # fmt: skip
    return table(headings, rows)


def figure(part: dict[str, Any]) -> None:
    """Time of int8 relative to fp32 in ONNX Runtime: one group a network."""
    names = sorted({key.split("/")[0] for key in part})
    ratio = {
        f"batch {n}": {name: part[f"{name}/{n}"]["ort_int8"]["ratio"] for name in names} for n in (1, 64)
    }
    every = [value for row in ratio.values() for value in row.values()]
    plot.bars(
        ratio, title=f"In ONNX Runtime int8 takes {min(every):.2f} to {max(every):.2f} of fp32's time",
        ylabel="time of int8 / time of fp32", fmt="{:.2f}", references={"fp32": 1.0},
    )  # fmt: skip
    plt.savefig(RESULTS / "quantization.png", dpi=120, bbox_inches="tight")


def main() -> None:
    measured = json.loads((RESULTS / "quantization.json").read_text(encoding="utf-8"))
    exact, calibration = exact_by_network(measured["exact"]), by_network(measured["calibration"])
    floats = {name: seeds[0]["float_accuracy"] for name, seeds in exact.items()}
    sections = [
        ("The integers, on test images", exactness(exact)),
        ("Accuracy", accuracies(exact)),
        ("What it is calibrated on (min-max observers)", calibrations(calibration, floats) + NOISE),
        ("Bytes on disk", sizes(measured["size"])),
        ("Latency, interleaved in one run", latencies(measured["latency"]) + BUSY),
        ("Dynamic quantization of the linear layers, arithmetic in PyTorch", dynamics(measured["dynamic"])),
    ]
    text = (
        "# Static 8-bit quantization\n\n"
        + machine()
        + ". Mean ± standard deviation over draws of 500 calibration images.\n"
    )
    for heading, body in sections:
        text += f"\n## {heading}\n\n{body}"
    (RESULTS / "quantization.md").write_text(text, encoding="utf-8")
    figure(measured["latency"])
    print(text)


if __name__ == "__main__":
    main()
