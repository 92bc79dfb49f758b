"""Deep Compression measured: prune, share, Huffman-code, by the size of a file that loads and runs. Three seeds.

    python benchmarks/deep_compression.py teacher                      # resnet20's logits of the views, once
    python benchmarks/deep_compression.py lenet300 --seeds 0 1 2 --publish
    python benchmarks/deep_compression.py lenet5 --seeds 0 1 2 --publish
    python benchmarks/deep_compression.py resnet20                     # the frontier
    python benchmarks/deep_compression.py report                       # tables and plot of what is there
    python benchmarks/deep_compression.py lenet300 --pilot 0.92 32     # a choice, on 5,000 held-out training images

All of Fashion-MNIST, one thread. The networks are the zoo's; they are pruned and their centroids trained towards the
labels and the logits of the zoo's resnet20 (Hinton's loss). The seeds draw the order of the images and which of six
views of each (mirrored or not, moved or not) is seen. Sparsity and clusters were first tried with --pilot, on held-out
images; LeNet-5's plan was made longer once more, see the table. Rows are kept in
benchmarks/results/deep_compression.json as they are measured, and not measured again.
"""

from __future__ import annotations

import argparse
import copy
import fcntl
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from coursekit import compression, pruning, zoo  # noqa: E402
from coursekit.data import Dataset, fashion_mnist  # noqa: E402
from coursekit.train import evaluate  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "deep_compression.json"
LOGITS = Path(tempfile.gettempdir()) / "coursekit-resnet20-views.safetensors"
HELD_OUT = 5_000
VIEWS = tuple((flip, shift) for shift in (0, 1, -1) for flip in (False, True))
Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How a network is compressed: shares to prune, clusters a layer, epochs and learning rates of both trainings."""

    sparsity: float
    clusters: int
    prune_epochs: int
    prune_lr: float
    share_epochs: int
    share_lr: float
    views: int = 2  # the first so many: mirrored or not; 6: moved by a pixel too
    temperature: float = 4.0
    soft: float = 0.9  # share of the soft targets in the loss


PLANS = {
    "lenet300": Plan(0.92, 32, prune_epochs=20, prune_lr=0.05, share_epochs=3, share_lr=0.01),
    "lenet5": Plan(0.91, 32, prune_epochs=12, prune_lr=0.03, share_epochs=2, share_lr=0.01, views=6),
}


def read() -> dict[str, Row]:
    """The rows measured so far, by key."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}


def once(key: str, work: Callable[[], Row]) -> Row:
    """The row of this key, measured now unless it is there; several runs may write at a time."""
    if key in read():
        return read()[key]
    started = time.process_time()
    row = {**work(), "cpu_seconds": round(time.process_time() - started, 1)}
    with open(Path(tempfile.gettempdir()) / "deep_compression.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fresh = RESULTS.with_suffix(".new")
        fresh.write_text(json.dumps({**read(), key: row}, indent=0, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(fresh, RESULTS)
    print(time.strftime("%H:%M:%S"), key, json.dumps(row), flush=True)
    return row


def view(images: Tensor, number: int) -> Tensor:
    """Images, mirrored and moved along the diagonal as view `number` says."""
    flip, shift = VIEWS[number]
    if shift:
        padded = F.pad(images, [1] * 4, mode="replicate")
        images = padded[..., 1 + shift : 29 + shift, 1 + shift : 29 + shift]
    return images.flip(-1) if flip else images


def teacher() -> Tensor:
    """resnet20's logits of all training images, (views, 60,000, 10); computed once and kept in a file."""
    if not LOGITS.is_file():
        network = zoo.load("resnet20").to(memory_format=torch.channels_last)
        images = fashion_mnist("train").images
        logits = torch.empty(len(VIEWS), len(images), 10)
        for number in range(len(VIEWS)):
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                parts = [network(view(part, number)).float() for part in images.split(250)]
            logits[number] = torch.cat(parts)
            print(time.strftime("%H:%M:%S"), f"view {number + 1} of {len(VIEWS)}", flush=True)
        save_file({"logits": logits}, LOGITS)
    return load_file(LOGITS)["logits"]


def steps_of(train: Dataset, logits: Tensor, plan: Plan, generator: torch.Generator) -> Iterator[Any]:
    """One epoch of (images, labels, teacher's logits), 128 a step, each image in one of the plan's views."""
    order = torch.randperm(len(train), generator=generator)
    which = torch.randint(plan.views, (len(train),), generator=generator)
    for chosen in order.split(128):
        drawn, images = which[chosen], train.images[chosen]
        for number in range(1, plan.views):
            mine = drawn == number
            images[mine] = view(images[mine], number)
        yield images, train.labels[chosen], logits[drawn, chosen]


def distilled(
    model: nn.Module,
    train: Dataset,
    logits: Tensor,
    plan: Plan,
    epochs: int,
    lr: float,
    seed: int,
    on_step: Callable[[int], None] | None = None,
) -> None:
    """Trains the model in place towards labels and logits: SGD with momentum, one learning-rate cycle."""
    generator, done = torch.Generator().manual_seed(seed), 0
    steps = epochs * -(-len(train) // 128)
    optimizer = torch.optim.SGD(model.parameters(), lr, 0.9, weight_decay=1e-4, nesterov=True)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=steps, pct_start=0.2, cycle_momentum=False
    )
    for _ in range(epochs):
        model.train()
        for images, labels, target in steps_of(train, logits, plan, generator):
            with torch.autocast("cpu", torch.bfloat16):
                out = model(images)
            out, t = out.float(), plan.temperature
            soft = F.kl_div((out / t).log_softmax(1), (target / t).softmax(1), reduction="batchmean") * t * t
            loss = plan.soft * soft + (1 - plan.soft) * F.cross_entropy(out, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
            done += 1
            if on_step is not None:
                on_step(done)
    model.eval()


def pruned(model: nn.Module, train: Dataset, logits: Tensor, plan: Plan, seed: int) -> nn.Module:
    """Pruned to the plan's share, cubic over the first half of the steps, all weights compared with each other."""
    made = copy.deepcopy(model).to(memory_format=torch.channels_last)
    steps = plan.prune_epochs * -(-len(train) // 128)
    schedule = pruning.Schedule("cubic", plan.sparsity, end=steps // 2, every=max(steps // 40, 1))
    pruner = pruning.IterativePruner(made, schedule)
    distilled(made, train, logits, plan, plan.prune_epochs, plan.prune_lr, seed, pruner.on_step)
    pruning.finalize(made)
    return made


def shared(model: nn.Module, train: Dataset, logits: Tensor, plan: Plan, seed: int) -> nn.Module:
    """Each layer's weights from a codebook whose centroids were trained on; biases and batch norms rounded."""
    made = compression.share_weights(model, plan.clusters).to(memory_format=torch.channels_last)
    compression.attach_codebooks(made, reduction="mean")
    distilled(made, train, logits, plan, plan.share_epochs, plan.share_lr, seed)
    compression.finalize_codebooks(made)
    return rounded_(made)


def rounded_(model: nn.Module) -> nn.Module:
    """The model itself, what is no weight of a layer put on 32 values, or on 16-bit ones where that is smaller."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.dim() != 1 or not tensor.is_floating_point():
                continue
            if tensor.numel() > 96 and "bias" in name:
                found = compression.kmeans(tensor, 32)
                tensor.copy_(found.centroids[found.indices])
            else:
                tensor.copy_(tensor.half())
    return model


def bytes_of(model: nn.Module, huffman: bool = True) -> tuple[int, dict[str, int]]:
    """The size of the network's file, which is loaded again and compared, and the bytes of each sort of part."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network"
        compression.save(model, path, huffman=huffman)
        again, size = compression.load(path), os.path.getsize(path)
        parts: dict[str, int] = {}
        for part in compression.contents(path):
            sort = (
                part.part if part.tensor == "" or part.tensor.endswith("weight") else "biases and batch norms"
            )
            parts[sort] = parts.get(sort, 0) + part.size_bytes
    assert all(torch.equal(t, again.state_dict()[k]) for k, t in model.state_dict().items())
    assert sum(parts.values()) == size
    return size, parts


def compressed(name: str, seed: int, plan: Plan, train: Dataset, test: Dataset) -> tuple[nn.Module, Row]:
    """One run: the small network, and a row of accuracy, bytes and what takes them after each stage."""
    logits = teacher()[:, : len(train)]
    dense = zoo.load(name)
    size, _ = bytes_of(dense)
    row: Row = {"plan": vars(plan), "file": os.path.getsize(zoo.path(name))}
    row["dense"] = {"accuracy": evaluate(dense, test), "bytes": size}
    sparse = pruned(dense, train, logits, plan, seed)
    print(time.strftime("%H:%M:%S"), "pruned", name, seed, evaluate(sparse, test), flush=True)
    small = shared(sparse, train, logits, plan, seed)
    weights = {n: w.detach() for n, w in compression.shareable(sparse).items()}
    row["kept"] = {n: int(w.count_nonzero()) / w.numel() for n, w in weights.items()}
    row["nonzero"] = sum(int(w.count_nonzero()) for w in weights.values())
    row["weights"] = sum(w.numel() for w in weights.values())
    for stage, model, huffman in (
        ("pruned", sparse, False),
        ("shared", small, False),
        ("huffman", small, True),
    ):
        size, parts = bytes_of(model, huffman)
        row[stage] = {"accuracy": evaluate(model, test), "bytes": size, "parts": parts}
    return small, row


def lenet(name: str, seeds: list[int], publish: bool) -> None:
    """The plan of a LeNet from these seeds; the first seed's file for the package."""
    train, test = fashion_mnist("train"), fashion_mnist("test")
    for seed in seeds:

        def work(seed: int = seed) -> Row:
            small, row = compressed(name, seed, PLANS[name], train, test)
            if publish and seed == 0:
                compression.save(small, ROOT / "coursekit" / "assets" / "artifacts" / f"{name}.cknn")
            return row

        once(f"{name}/{seed}", work)


def resnet() -> None:
    """ResNet-20 to the least bytes: shared as it is, then pruned further; short training on 20,000 images, one seed."""
    train, test = fashion_mnist("train").take(20_000), fashion_mnist("test")
    for clusters in (64, 32, 16, 8):
        once(
            f"resnet20/0/{clusters}",
            lambda k=clusters: measured(compression.share_weights(zoo.load("resnet20"), k), test),
        )
    once(
        "resnet20/0.9/untrained",
        lambda: measured(compression.share_weights(zoo.load("resnet20-sparse90"), 16), test),
    )
    for sparsity, epochs in ((0.9, 0), (0.95, 3)):
        plan = Plan(sparsity, 16, prune_epochs=epochs, prune_lr=0.05, share_epochs=1, share_lr=0.02, views=6)

        def work(plan: Plan = plan) -> Row:
            logits = teacher()[:, : len(train)]
            model = zoo.load("resnet20-sparse90").to(memory_format=torch.channels_last)
            sparse = pruned(model, train, logits, plan, 0) if plan.prune_epochs else model
            return measured(shared(sparse, train, logits, plan, 0), test) | {"plan": vars(plan)}

        once(f"resnet20/{sparsity}/trained", work)


def measured(model: nn.Module, test: Dataset) -> Row:
    """Accuracy, bytes and parts of the network's file."""
    model = rounded_(model)
    size, parts = bytes_of(model)
    return {"accuracy": evaluate(model, test), "bytes": size, "parts": parts}


def pilot(name: str, sparsity: float, clusters: int) -> None:
    """One candidate trained on 55,000 images and measured on the 5,000 others.

    The dense network has seen all of them, which flatters every candidate alike.
    """
    whole = fashion_mnist("train")
    train = whole.take(len(whole) - HELD_OUT)
    held = Dataset(whole.images[-HELD_OUT:], whole.labels[-HELD_OUT:], whole.classes, whole.source)
    plan = Plan(**{**vars(PLANS[name]), "sparsity": sparsity, "clusters": clusters})
    once(f"pilot/{name}/{sparsity}/{clusters}", lambda: compressed(name, 0, plan, train, held)[1])


def main() -> None:
    """Runs the part that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", choices=("teacher", "lenet300", "lenet5", "resnet20", "report"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--publish", action="store_true", help="keep seed 0's file for the package")
    parser.add_argument("--pilot", nargs=2, metavar=("SPARSITY", "CLUSTERS"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.part == "teacher":
        teacher()
    elif arguments.pilot:
        pilot(arguments.part, float(arguments.pilot[0]), int(arguments.pilot[1]))
    elif arguments.part in ("lenet300", "lenet5"):
        lenet(arguments.part, arguments.seeds, arguments.publish)
    elif arguments.part == "resnet20":
        resnet()
    else:
        import deep_compression_report

        deep_compression_report.write(read(), RESULTS)


if __name__ == "__main__":
    main()
