"""A student of 19,810 parameters, alone and taught in many ways; a missing class; a student twenty times smaller.

    python benchmarks/distillation.py choose                # temperatures and weights, on held-out training images
    python benchmarks/distillation.py rows --seeds 0 1 2    # the table: every way, equal epochs, the same images
    python benchmarks/distillation.py full --seeds 0 1 2    # alone, smoothed and taught, on more images
    python benchmarks/distillation.py missing --seeds 0 1 2 # Hinton's missing class
    python benchmarks/distillation.py twenty                # at most a twentieth of ResNet-20's bytes
    python benchmarks/distillation.py publish               # students into the zoo
    python benchmarks/distillation.py report                # tables, plots, the lessons' curves

Each run is kept in build/distillation and not done twice; one that was cut off goes on from its last epoch. The last
5,000 of the 60,000 training images are held out: settings are chosen on them alone. The test set measures last weights
and chooses nothing. The seed draws a student's first weights and the order of its images.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch  # noqa: E402
from distillation_report import report  # noqa: E402
from distillation_setup import (  # noqa: E402
    BUILD,
    CHANNELS,
    EPOCHS,
    FEW,
    MORE_EPOCHS,
    PAIRS,
    TEACHERS,
    attentive,
    choose,
    chosen,
    everything,
    first,
    fresh,
    held_out,
    hinted,
    kd,
    keep,
    kept,
    once,
    recipe,
    teacher,
    train,
)
from torch import nn  # noqa: E402

from coursekit import zoo  # noqa: E402
from coursekit.compression.artifact import load, save  # noqa: E402
from coursekit.data import Dataset, fashion_mnist, flip_and_shift  # noqa: E402
from coursekit.distillation import (  # noqa: E402
    DistillationLoss,
    Ensemble,
    Hints,
    StudentAlone,
    learn_mutually,
    missing_class_bias,
    run_stages,
    softening_stages,
)
from coursekit.quantization.affine import fake_quantize, symmetric_scale_per_channel  # noqa: E402
from coursekit.train import evaluate, predict  # noqa: E402


def mean_of(network: nn.Module, data: Dataset) -> float:
    """Accuracy, rounded to the image."""
    return round(evaluate(network, data), 5)


def taught(
    objective: Callable[[], Any], guide: Callable[[], nn.Module] | None = teacher
) -> Callable[[str, int], Any]:
    """A row: one student, one objective, one teacher or none."""

    def run(key: str, seed: int) -> dict[str, Any]:
        student = fresh(seed)
        curves = train(key, student, guide() if guide else None, objective(), recipe(seed), first(FEW))
        keep(key, student)
        return {"accuracy": mean_of(student, fashion_mnist("test")), "curves": curves}

    return run


def mutual_pair(key: str, seed: int) -> dict[str, Any]:
    """Two peers of one architecture; the first one's accuracy counts, fixed beforehand."""
    peers = [fresh(seed), fresh(seed + 1000)]
    histories = learn_mutually(peers, first(FEW), recipe(seed))
    keep(key, peers[0])
    accuracies = [mean_of(peer, fashion_mnist("test")) for peer in peers]
    return {"accuracy": accuracies[0], "other_peer": accuracies[1], "curves": {"loss": histories[0].loss}}


def assistant_chain(key: str, seed: int) -> dict[str, Any]:
    """ResNet-20 teaches a student twice as wide, which then teaches the student."""
    assistant = fresh(seed, width=16)
    train(f"{key}-assistant", assistant, teacher(), kd(), recipe(seed), first(FEW))
    student = fresh(seed)
    curves = train(key, student, assistant.eval(), kd(), recipe(seed), first(FEW))
    keep(key, student)
    test = fashion_mnist("test")
    return {"accuracy": mean_of(student, test), "assistant": mean_of(assistant, test), "curves": curves}


def hint_first(key: str, seed: int) -> dict[str, Any]:
    """FitNets' two stages: a quarter of the epochs on the hint alone, the rest on Hinton's loss; a cycle each."""
    student, begun = fresh(seed), EPOCHS // 4
    train(f"{key}-hint", student, teacher(), Hints(PAIRS[:1], CHANNELS[:1]), recipe(seed, begun), first(FEW))
    curves = train(key, student, teacher(), kd(), recipe(seed, EPOCHS - begun), first(FEW))
    keep(key, student)
    return {"accuracy": mean_of(student, fashion_mnist("test")), "curves": curves}


def softer_first(key: str, seed: int) -> dict[str, Any]:
    """Half the epochs on a softer teacher, the rest on Hinton's loss as chosen; a cycle each."""
    student, loss = fresh(seed), kd()
    plan = softening_stages("teacher", "student", EPOCHS, [8.0, loss.temperature], [0.9, loss.alpha])
    networks = {"teacher": teacher(), "student": student}
    histories = run_stages(
        plan,
        networks,
        first(FEW),
        recipe(seed),
        lambda s: DistillationLoss(s.temperature, s.alpha),
        cache=BUILD / "cache",
    )
    keep(key, student)
    curves = {"loss": [value for history in histories for value in history.loss]}
    return {"accuracy": mean_of(student, fashion_mnist("test")), "curves": curves}


def three_teachers() -> nn.Module:
    """ResNet-20, MobileNetV2 and LeNet-5, their probabilities averaged at the loss's temperature."""
    return Ensemble([teacher(name) for name in TEACHERS], temperature=kd().temperature)


WAYS: dict[str, Callable[[str, int], dict[str, Any]]] = {
    "alone": taught(StudentAlone, None),
    "kd": taught(kd),
    "smoothing": taught(lambda: StudentAlone(0.1), None),
    "attention": taught(lambda: attentive(chosen("at"), StudentAlone())),
    "kd-attention": taught(lambda: attentive(chosen("at"), kd())),
    "hints": taught(lambda: hinted(chosen("hint"), kd())),
    "ensemble": taught(kd, three_teachers),
    "mutual": mutual_pair,
    "progressive": softer_first,
    "hint-first": hint_first,
    "assistant": assistant_chain,
}


def rows(seeds: list[int], ways: list[str]) -> None:
    """Every way, with every seed."""
    for way in ways:
        for seed in seeds:
            key = f"rows/{way}-{seed}"
            once(key, lambda key=key, way=way, seed=seed: WAYS[way](key, seed))


def full(seeds: list[int]) -> None:
    """Alone, smoothed and taught on more images."""
    ways = {"alone": StudentAlone(), "kd": kd(), "smoothing": StudentAlone(0.1)}
    for seed in seeds:
        for n, epochs in MORE_EPOCHS.items():
            for name, objective in ways.items():
                key = f"{n}/{name}-{seed}"

                def run(
                    key: str = key, name: str = name, objective: Any = objective, seed: int = seed,
                    n: int = n, epochs: int = epochs,
                ) -> dict[str, Any]:  # fmt: skip
                    student, guide = fresh(seed), teacher() if name == "kd" else None
                    curves = train(key, student, guide, objective, recipe(seed, epochs), first(n))
                    return {"accuracy": mean_of(student, fashion_mnist("test")), "curves": curves}

                once(key, run)


MISSING = 3  # a dress, as Hinton left out the digit 3


def missing(seeds: list[int]) -> None:
    """One class left out of the transfer set; errors on it before and after its bias is corrected.

    The bias is set on the held-out training images, from how common the class is there and without their labels.
    """
    data, test, extra = first(10_000), fashion_mnist("test"), held_out()
    rest = data.labels != MISSING
    without = Dataset(data.images[rest], data.labels[rest], data.classes, data.source)
    ways = {"alone": StudentAlone(), "taught": DistillationLoss(kd().temperature, 1.0)}
    share = (extra.labels == MISSING).float().mean().item()

    def run(key: str, name: str, seed: int) -> dict[str, Any]:
        student = fresh(seed)
        train(
            key,
            student,
            teacher() if name == "taught" else None,
            ways[name],
            recipe(seed, MORE_EPOCHS[10_000]),
            without,
        )
        logits = predict(student, test.images).clone()
        bias = missing_class_bias(predict(student, extra.images), MISSING, share)
        row: dict[str, Any] = {"bias": round(bias, 4), "of": int((test.labels == MISSING).sum())}
        for when in ("before", "after"):
            wrong = logits.argmax(1) != test.labels
            row[when] = {"errors": int(wrong.sum()), "on_the_class": int(wrong[test.labels == MISSING].sum())}
            logits[:, MISSING] += bias
        return row

    for seed in seeds:
        for name in ways:
            key = f"missing/{name}-{seed}"
            once(key, lambda key=key, name=name, seed=seed: run(key, name, seed))


def versions(data: Dataset, n: int) -> Dataset:
    """The images as they are and n - 1 times flipped and shifted, always alike: so the teacher looks at each once."""
    generator = torch.Generator().manual_seed(0)
    more = [flip_and_shift(data.images, generator) for _ in range(n - 1)]
    return Dataset(torch.cat([data.images, *more]), data.labels.repeat(n), data.classes, data.source)


def on_grid(network: nn.Module) -> nn.Module:
    """Weights as 8-bit integers times a scale a channel, all else as 16-bit floats: in place."""
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.dim() > 1:
                value.copy_(fake_quantize(value, symmetric_scale_per_channel(value)))
            elif value.is_floating_point():
                value.copy_(value.half().float())
    return network


# The student's teacher, its options, epochs, and the number of versions of each image.
TWENTY = {
    "lenet5": ({"width": 16}, 8, 1),
    "resnet20": ({"width": 12, "stem_stride": 1}, 5, 2),
}


def twenty(name: str, seeds: Iterable[int]) -> None:
    """A student in at most a twentieth of its teacher's bytes: taught, rounded to 8 bits, written, read, measured.

    And beside it, as the control, the same student without a teacher.
    """
    for seed in seeds:
        taught_key = f"twenty/{name}" if seed == 0 else f"twenty/{name}-{seed}"
        once(taught_key, partial(_twenty, name, seed, f"twenty/{name}-kd-{seed}", kd(), teacher(name)))
        alone_key = f"twenty/{name}-alone-{seed}"
        once(alone_key, partial(_twenty, name, seed, alone_key, StudentAlone(), None))


def _twenty(name: str, seed: int, key: str, objective: Any, guide: nn.Module | None) -> dict[str, Any]:
    options, epochs, n = TWENTY[name]
    student, settings = fresh(seed, **options), recipe(seed, epochs)
    curves = train(f"{key}-weights", student, guide, objective, settings, versions(first(55_000), n))
    test, file = fashion_mnist("test"), BUILD / f"{key}.net"
    as_float = mean_of(student, test)
    keep(f"{key}-weights", on_grid(student))
    save(student, file)
    return {
        "float": as_float,
        "accuracy": mean_of(load(file).eval(), test),
        "bytes": os.path.getsize(file),
        "teacher": name,
        "taught": guide is not None,
        "teacher_bytes": os.path.getsize(zoo.path(name)),
        "teacher_accuracy": zoo.card(name)["test_accuracy"],
        "parameters": sum(p.numel() for p in student.parameters()),
        "versions": n,
        "options": options,
        "recipe": asdict(settings),
        "curves": curves,
    }


def publish() -> None:
    """Seed 0 alone and taught, and the small one, into the zoo."""
    script = "python benchmarks/distillation.py publish"
    for name, way in {"resnet8": "alone", "resnet8-distilled": "kd"}.items():
        facts = {"data": f"Fashion-MNIST, the first {FEW:,} training images that ship with coursekit", "seed": 0,
                 "recipe": asdict(recipe(0)), "objective": "labels" if way == "alone" else repr_of(kd()),
                 "teacher": None if way == "alone" else "resnet20"}  # fmt: skip
        print(zoo.publish(name, kept(f"rows/{way}-0", fresh(0)), script=script, facts=facts))
    for name in TWENTY:
        if not (BUILD / f"twenty/{name}.json").is_file():
            continue
        row = once(f"twenty/{name}", dict)
        model = kept(f"twenty/{name}-kd-0-weights", fresh(0, **row["options"]))
        facts = {"data": f"Fashion-MNIST, 55,000 training images in {row['versions']} versions", "seed": 0,
                 "recipe": row["recipe"], "objective": repr_of(kd()), "teacher": name,
                 "artifact_bytes": row["bytes"], "accuracy_float": row["float"]}  # fmt: skip
        print(zoo.publish(f"resnet8-of-{name}", model, script=script, facts=facts))


def repr_of(loss: DistillationLoss) -> str:
    """The loss and its settings."""
    return f"DistillationLoss(temperature={loss.temperature}, alpha={loss.alpha})"


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ["choose", "rows", "full", "missing", "twenty", "publish", "report"]
    parser.add_argument("parts", choices=parts, nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--teacher", choices=list(TWENTY), default="lenet5")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    arguments = parser.parse_args()
    for part in arguments.parts:
        if part == "rows":
            rows(arguments.seeds, arguments.ways)
        elif part in ("full", "missing"):
            {"full": full, "missing": missing}[part](arguments.seeds)
        elif part == "report":
            report(everything(), FEW, EPOCHS, MORE_EPOCHS)
        elif part == "twenty":
            twenty(arguments.teacher, arguments.seeds)
        else:
            {"choose": choose, "publish": publish}[part]()
