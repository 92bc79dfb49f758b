"""Static 8-bit quantization: are the integers right, what do they cost in accuracy, bytes and time.

    python benchmarks/quantization.py exact --nets resnet20 --seeds 0 1 2
    python benchmarks/quantization.py calibration size latency dynamic
    python benchmarks/quantization_report.py

Parts, each cached in quantization.json, so that a run can be interrupted:

exact        10,000 test images through the integer network, its fake-quantized view, the usual fake quantization and
             ONNX Runtime, all layers; each layer in ONNX Runtime once more on our very codes.
calibration  accuracy after calibration on 500 training images and on 500 images of noise, min-max observers.
size         bytes on disk.
latency      ONNX Runtime fp32 and int8, one thread, batch 1 and 64, interleaved in one run.
dynamic      accuracy, bytes and time of dynamically quantized linear layers.

A seed is a draw of 500 calibration images from the 60,000 training images.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from coursekit import zoo  # noqa: E402
from coursekit.data import Dataset, fashion_mnist  # noqa: E402
from coursekit.deploy import OrtModel, export_float, export_layer, export_qdq  # noqa: E402
from coursekit.measure import file_size, latency  # noqa: E402
from coursekit.quantization import QuantizedModel, quantize_static, save_integer  # noqa: E402
from coursekit.train import evaluate  # noqa: E402

RESULTS = Path(os.environ.get("BENCHMARK_RESULTS", ROOT / "benchmarks" / "results"))
CACHE = RESULTS / "quantization.json"
N_CALIBRATION, BATCH, CHUNK = 500, 100, 2500


def cached() -> dict[str, Any]:
    return json.loads(CACHE.read_text(encoding="utf-8")) if CACHE.is_file() else {}


def keep(part: str, key: str, value: Any) -> None:
    """Adds one result to the cache and says so."""
    everything = cached()
    everything.setdefault(part, {})[key] = value
    CACHE.write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(time.strftime("%H:%M:%S"), part, key, {k: v for k, v in value.items() if k != "layers"}, flush=True)


def calibration_images(seed: int) -> Tensor:
    images = fashion_mnist("train").images
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:N_CALIBRATION]
    return images[chosen]


def noise_images(seed: int) -> Tensor:
    """What both tutorials calibrate on: standard normal noise in the shape of the images."""
    return torch.randn(N_CALIBRATION, 1, 28, 28, generator=torch.Generator().manual_seed(1000 + seed))


def accuracy(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(1) == labels).double().mean().item()


class Agreement:
    """How two streams of codes differ: how many values, by how much at most."""

    def __init__(self) -> None:
        self.total = self.unequal = self.beyond_one = self.largest = 0

    def add(self, a: Tensor, b: Tensor) -> None:
        difference = (a.int() - b.int()).abs()
        self.total += difference.numel()
        self.unequal += int((difference > 0).sum())
        self.beyond_one += int((difference > 1).sum())
        self.largest = max(self.largest, int(difference.max()))


def exact(name: str, seed: int, test: Dataset) -> dict[str, Any]:
    """Everything on the same images, layer by layer."""
    model = zoo.load(name)
    quantized = quantize_static(model, calibration_images(seed))
    grids = {"input": quantized.input} | {step.name: step.layer.output for step in quantized.steps}
    views = ("fake", "usual_fake", "ort", "ort_layer_alone")
    agreement = {view: {layer: Agreement() for layer in grids} for view in views}
    logits: dict[str, list[Tensor]] = {"float": [], "integer": [], "ort": []}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        export_qdq(quantized, f"{folder}/network.onnx", layer_codes=True)
        runtime, alone = OrtModel(f"{folder}/network.onnx"), _alone(quantized, test.images[:2], folder)
        for batch in test.images.split(BATCH):
            codes = quantized.layer_codes(batch)
            fake, usual = (quantized.fake(r).layer_values(batch) for r in ("fixed_point", "float"))
            theirs = runtime.layer_codes(batch)
            for layer, q in codes.items():
                agreement["fake"][layer].add(grids[layer].back(fake[layer]), q)
                agreement["usual_fake"][layer].add(grids[layer].back(usual[layer]), q)
                agreement["ort"][layer].add(theirs[layer], q)
            for step in quantized.steps:
                given = alone[step.name].step(*(codes[source] for source in step.inputs))
                agreement["ort_layer_alone"][step.name].add(given, codes[step.name])
            logits["float"].append(model(batch))
            logits["integer"].append(codes[quantized.steps[-1].name].float())
            logits["ort"].append(theirs[quantized.steps[-1].name].float())
    last = quantized.steps[-1].name
    result: dict[str, Any] = {"images": len(test)} | {
        f"{key}_accuracy": accuracy(torch.cat(v), test.labels) for key, v in logits.items()
    }
    for view in views:
        result[f"{view}_logits"] = vars(agreement[view][last])
        layers = [each for each in agreement[view].values() if each.total]
        result[f"{view}_all_layers"] = {
            "total": sum(each.total for each in layers),
            "unequal": sum(each.unequal for each in layers),
            "largest": max(each.largest for each in layers),
        }
    result["layers"] = {view: {layer: vars(a) for layer, a in agreement[view].items()} for view in views}
    return result


def _alone(quantized: QuantizedModel, images: Tensor, folder: str) -> dict[str, OrtModel]:
    """Each layer as a file of its own in ONNX Runtime."""
    codes, result = quantized.layer_codes(images), {}
    for step in quantized.steps:
        shapes = [tuple(codes[source].shape[1:]) for source in step.inputs]
        export_layer(step, f"{folder}/layer.onnx", *shapes)
        result[step.name] = OrtModel(f"{folder}/layer.onnx")
    return result


def calibration(name: str, seed: int, test: Dataset) -> dict[str, Any]:
    """Test accuracy of the int8 network in ONNX Runtime, whose logits are within a step of ours."""
    result = {}
    for kind, images in (("real", calibration_images(seed)), ("noise", noise_images(seed))):
        with tempfile.TemporaryDirectory() as folder:
            export_qdq(quantize_static(zoo.load(name), images), f"{folder}/int8.onnx")
            runtime = OrtModel(f"{folder}/int8.onnx")
            logits = torch.cat([runtime(batch) for batch in test.images.split(BATCH)])
        result[kind] = accuracy(logits, test.labels)
    return result


def size(name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        quantized = quantize_static(zoo.load(name), calibration_images(0))
        save_integer(quantized, f"{folder}/int8.safetensors")
        export_qdq(quantized, f"{folder}/int8.onnx")
        export_float(zoo.load(name), f"{folder}/float.onnx")
        return {
            "float": file_size(zoo.path(name)),
            "int8": file_size(f"{folder}/int8.safetensors"),
            "float_onnx": file_size(f"{folder}/float.onnx"),
            "int8_onnx": file_size(f"{folder}/int8.onnx"),
        }


def times(name: str, batch_size: int, images: Tensor) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        model = zoo.load(name)
        quantized = quantize_static(model, calibration_images(0))
        export_float(model, f"{folder}/float.onnx")
        export_qdq(quantized, f"{folder}/int8.onnx")
        pair = {"ort_float": OrtModel(f"{folder}/float.onnx"), "ort_int8": OrtModel(f"{folder}/int8.onnx")}
        batch = images[:batch_size]
        measured = latency(pair, batch, repeats=400 if batch_size == 1 else 100)
        slow = {"pytorch_float": model, "ours_in_pytorch": quantized}
        others = latency({"ort_float": pair["ort_float"]} | slow, batch, repeats=10)
    measured |= {key: others[key] for key in slow}
    return {key: vars(value) for key, value in measured.items()}


def dynamic(name: str, test: Dataset) -> dict[str, Any]:
    """Linear layers quantized dynamically: accuracy, bytes of the state dict in a file, time against the float net."""
    from coursekit.measure import saved_size
    from coursekit.quantization import quantize_dynamic

    model = zoo.load(name)
    changed = quantize_dynamic(model)
    models: dict[str, nn.Module] = {"float": model, "dynamic": changed}
    result: dict[str, Any] = {f"{key}_accuracy": evaluate(each, test) for key, each in models.items()}
    result |= {f"{key}_bytes": saved_size(each) for key, each in models.items()}
    for batch_size in (1, 100):
        measured = latency(models, test.images[:batch_size], repeats=50)["dynamic"]
        result[f"ratio_batch_{batch_size}"] = measured.ratio
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ("exact", "calibration", "size", "latency", "dynamic")
    parser.add_argument("parts", nargs="+", choices=parts)
    parser.add_argument("--nets", nargs="+", default=["lenet300", "lenet5", "resnet20", "mobilenet"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=10_000, help="stop after so many")
    parser.add_argument("--again", action="store_true", help="measure what the cache has, too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    test = fashion_mnist("test")
    jobs: dict[tuple[str, str], Any] = {}
    for name in arguments.nets:
        for seed in arguments.seeds:
            for start in range(0, len(test), CHUNK):
                part = Dataset(
                    *(each[start : start + CHUNK] for each in (test.images, test.labels)), test.classes, ""
                )
                jobs["exact", f"{name}/{seed}/{start}"] = lambda name=name, seed=seed, part=part: exact(
                    name, seed, part
                )
            jobs["calibration", f"{name}/{seed}"] = lambda name=name, seed=seed: calibration(name, seed, test)
        jobs["size", name] = lambda name=name: size(name)
        jobs["dynamic", name] = lambda name=name: dynamic(name, test)
        for batch_size in (1, 64):
            key = f"{name}/{batch_size}"
            jobs["latency", key] = lambda name=name, n=batch_size: times(name, n, test.images)
    for (part, key), job in jobs.items():
        wanted = part in arguments.parts and (arguments.again or key not in cached().get(part, {}))
        if wanted and arguments.jobs > 0:
            arguments.jobs -= 1
            keep(part, key, job())


if __name__ == "__main__":
    main()
