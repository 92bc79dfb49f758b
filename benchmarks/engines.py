"""How fast the zoo's networks run in each engine, float32 and int8, and what the int8 ones get right.

    python benchmarks/engines.py

Every ratio int8 : float32 is measured within one engine, the two interleaved in one run, on one thread. Parts (a
network at a batch size) that are already in benchmarks/results/engines.json are not measured again; --fresh does.
Written are the table and the plot beside it. The column "before" is an earlier run of this project on the same kind of
processor, with random weights and ONNX Runtime's own static quantization.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

import matplotlib as mpl
import torch
from torch import nn

from coursekit import data, deploy, measure, plot, zoo
from coursekit.deploy import Engine
from coursekit.quantization import cast_model, quantize_static

mpl.use("Agg")

RESULTS = Path(__file__).parent / "results"
SHIPPED = Path(__file__).parents[1] / "coursekit" / "assets" / "engines.json"  # lesson 04 shows it
NETWORKS = ("lenet300", "lenet5", "resnet20")
BATCHES = (1, 64)
ROUNDS = {
    "lenet300": 10,
    "lenet5": 3,
    "resnet20": 1,
}  # times --repeats: small networks are quick, and their times jump
PAIRS = ("Inductor", "ONNX Runtime", "OpenVINO")
CALIBRATION = 512  # training images, for every engine the same
# ms float32 -> int8, measured earlier: (network, batch) -> engine -> (float32, int8)
BEFORE = {
    ("lenet300", 64): {
        "ONNX Runtime": (0.167, 0.061),
        "OpenVINO": (0.178, 0.064),
        "Inductor": (0.525, 0.146),
    },
    ("lenet5", 64): {"ONNX Runtime": (3.28, 1.73), "OpenVINO": (2.55, 1.10), "Inductor": (3.73, 2.16)},
    ("resnet20", 1): {"ONNX Runtime": (0.534, 0.351), "OpenVINO": (0.561, 0.252), "Inductor": (2.11, 1.80)},
    ("resnet20", 64): {"ONNX Runtime": (48.4, 21.9), "OpenVINO": (49.8, 13.3), "Inductor": (58.3, 15.8)},
}


def machine() -> str:
    """The processor, its int8 and 16-bit instructions, and what runs on it."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in lines.items()}
    known = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16")
    flags = [flag for flag in known if flag in fields.get("flags", "").split()]
    processor = fields.get("model name", platform.processor() or platform.machine())
    return f"{processor}, {os.cpu_count()} cores, one thread; {', '.join(flags)}"


def versions() -> str:
    """The engines' versions."""
    packages = ("torch", "torchao", "onnxruntime", "openvino")
    return ", ".join(f"{package} {version(package)}" for package in packages)


def write_files(network: nn.Module, calibration: torch.Tensor, folder: Path) -> dict[str, Path]:
    """The network as ONNX: float32, and int8 with the scales and zero points of our static quantization."""
    files = {"fp32": folder / "fp32.onnx", "int8": folder / "int8.onnx"}
    deploy.export_float(network, files["fp32"])
    deploy.export_qdq(quantize_static(network, calibration), files["int8"])
    return files


def build(
    network: nn.Module, files: dict[str, Path], calibration: torch.Tensor, example: torch.Tensor
) -> dict[str, Engine]:
    """All engines, by name."""
    engines = [
        deploy.eager(network),
        deploy.inductor(network, example),
        deploy.inductor_int8(network, calibration, example),
    ]
    for make, name in ((deploy.onnx_runtime, "ONNX Runtime"), (deploy.openvino, "OpenVINO")):
        engines += [make(files[kind], f"{name} {kind}") for kind in ("fp32", "int8")]
    for kind, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        engines.append(Engine(f"eager {kind}", cast_model(network, dtype)))
    return {engine.name: engine for engine in engines}


def timed(
    engines: dict[str, Engine], names: tuple[str, ...], images: torch.Tensor, repeats: int
) -> dict[str, Any]:
    """Median and least milliseconds of each, and its ratio to the first, in one interleaved run."""
    found = measure.latency({name: engines[name] for name in names}, images, warmup=3, repeats=repeats)
    return {
        name: {"median_ms": round(t.median_ms, 4), "min_ms": round(t.min_ms, 4), "ratio": round(t.ratio, 4)}
        for name, t in found.items()
    }


def part(name: str, batch: int, repeats: int) -> dict[str, Any]:
    """Everything that is measured of one network at one batch size."""
    network = zoo.load(name)
    calibration = data.fashion_mnist("train").take(CALIBRATION).images
    test = data.fashion_mnist("test")
    images = test.images[:batch]
    with tempfile.TemporaryDirectory(prefix="coursekit-") as folder:
        files = write_files(network, calibration, Path(folder))
        started = time.perf_counter()
        engines = build(network, files, calibration, images)
        made: dict[str, Any] = {"build_seconds": round(time.perf_counter() - started, 1)}
        made["pairs"] = {e: timed(engines, (f"{e} fp32", f"{e} int8"), images, repeats) for e in PAIRS}
        # fp16 may be twenty times slower: fewer rounds
        made["eager"] = timed(
            engines, ("eager fp32", "eager bf16", "eager fp16"), images, max(5, repeats // 5)
        )
        floats = tuple(f"{e} fp32" for e in ("eager", *PAIRS))
        made["floats"] = timed(engines, floats, images, repeats)
        made["onnx_bytes"] = {kind: measure.file_size(path) for kind, path in files.items()}
        if batch > 1:
            made["accuracy"] = {
                each: round(deploy.engine_accuracy(engine, test, batch), 4)
                for each, engine in engines.items()
                if each != "eager fp16"
            }
            made["test_images"] = len(test)
    return made


def _by_least(times: dict[str, Any], name: str, reference: str) -> float:
    return times[name]["min_ms"] / times[reference]["min_ms"]


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Engines", "", f"Machine: {results['machine']}.", f"Versions: {results['versions']}.", "",
        "Milliseconds a call, median (least); int8 : fp32 within one engine, by the median of the rounds' ratios and",
        "by the least times, which other work on the machine disturbs less; below 1 is faster. *before*: the ratio in",
        "an earlier run of this project, on random weights.", "",
        "| network, batch | engine | fp32 ms | int8 ms | int8 : fp32 | by least times | before |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for key, made in results["parts"].items():
        network, batch = key.split(",")
        before = BEFORE.get((network, int(batch)), {})
        for engine, pair in made["pairs"].items():
            slow, fast = pair[f"{engine} fp32"], pair[f"{engine} int8"]
            earlier = f"{before[engine][1] / before[engine][0]:.2f}" if engine in before else "–"
            lines.append(
                f"| {network}, {batch} | {engine} | {slow['median_ms']:.3f} ({slow['min_ms']:.3f}) | "
                f"{fast['median_ms']:.3f} ({fast['min_ms']:.3f}) | **{fast['ratio']:.2f}** | "
                f"{fast['min_ms'] / slow['min_ms']:.2f} | {earlier} |"
            )
    lines += [
        "", "The network in float32, engine : eager; eager in 16 bits : eager float32 (least times of one run).", "",
        "| network, batch | Inductor | ONNX Runtime | OpenVINO | eager bf16 | eager fp16 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for key, made in results["parts"].items():
        ratios = [_by_least(made["floats"], f"{e} fp32", "eager fp32") for e in PAIRS]
        ratios += [_by_least(made["eager"], f"eager {kind}", "eager fp32") for kind in ("bf16", "fp16")]
        lines.append(f"| {key.replace(',', ', ')} | " + " | ".join(f"{r:.2f}" for r in ratios) + " |")
    n_images = max(made.get("test_images", 0) for made in results["parts"].values())
    wide = {key: made for key, made in results["parts"].items() if "accuracy" in made}
    lines += [
        "",
        f"Accuracy on {n_images:,} test images, and bytes of the ONNX files.",
        "",
    ]
    names = list(next(iter(wide.values()))["accuracy"])
    lines.append("| network | " + " | ".join(names) + " | fp32 file | int8 file |")
    lines.append("| --- |" + " --- |" * (len(names) + 2))
    for key, made in wide.items():
        right = " | ".join(f"{made['accuracy'][name]:.2%}" for name in names)
        sizes = made["onnx_bytes"]
        lines.append(f"| {key.split(',')[0]} | {right} | {sizes['fp32']:,} | {sizes['int8']:,} |")
    return "\n".join(lines) + "\n"


def draw(results: dict[str, Any], path: Path) -> None:
    """The ratios as bars."""
    bars = {
        engine: {key.replace(",", "\nbatch "): made["pairs"][engine][f"{engine} int8"]["ratio"]
                 for key, made in results["parts"].items()}
        for engine in PAIRS
    }  # fmt: skip
    axes = plot.bars(
        bars, ylabel="int8 : float32, one run (below 1 is faster)", fmt="{:.2f}", references={"no gain": 1.0},
        title="int8 pays at batch 64, in every engine",
    )  # fmt: skip
    axes.figure.set_size_inches(9, 4.2)
    axes.figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES, choices=BATCHES)
    parser.add_argument("--repeats", type=int, default=40, help="rounds of each run")
    parser.add_argument("--fresh", action="store_true", help="measure these again")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cache = RESULTS / "engines.json"
    results: dict[str, Any] = {
        "machine": machine(),
        "versions": versions(),
        "calibration_images": CALIBRATION,
        "parts": {},
    }
    known = json.loads(cache.read_text(encoding="utf-8"))["parts"] if cache.is_file() else {}
    wanted = [(name, batch) for name in arguments.networks for batch in arguments.batches]
    again = [f"{name},{batch}" for name, batch in wanted if arguments.fresh]
    results["parts"] = {key: made for key, made in known.items() if key not in again}
    for name, batch in wanted:
        if f"{name},{batch}" not in results["parts"]:
            results["parts"][f"{name},{batch}"] = part(name, batch, arguments.repeats * ROUNDS[name])
            torch.compiler.reset()
            cache.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            print(name, batch, json.dumps(results["parts"][f"{name},{batch}"]), flush=True)
    order = [f"{name},{batch}" for name in NETWORKS for batch in BATCHES]
    results["parts"] = {key: results["parts"][key] for key in order if key in results["parts"]}
    cache.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    shutil.copyfile(cache, SHIPPED)
    (RESULTS / "engines.md").write_text(table(results), encoding="utf-8")
    draw(results, RESULTS / "engines.png")
    print(table(results))


if __name__ == "__main__":
    main()
