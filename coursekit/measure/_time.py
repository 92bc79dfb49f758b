"""Latency by one protocol, as a ratio to a reference run in the same process."""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from coursekit.train import eval_mode


@dataclass(frozen=True)
class Latency:
    """The time of one call, and how it compares with the reference's.

    Attributes: median_ms: median over all timed calls, in milliseconds.
                min_ms: the fastest call, in milliseconds.
                ratio: median over the rounds of this model's time over the reference's in the same round;
                0.5 is twice as fast. Of 40 runs of a LeNet-5 against itself on a busy machine (30 rounds
                each) it strayed by 0.7 %, the ratio of the minima by 1.3 %, of the medians by 2.1 %.
    """

    median_ms: float
    min_ms: float
    ratio: float


@contextlib.contextmanager
def _threads(n: int) -> Iterator[None]:
    """torch's number of threads set to n inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def latency(
    models: Mapping[str, Callable[..., Any]],
    inputs: Tensor | tuple[Any, ...],
    *,
    threads: int = 1,
    warmup: int = 5,
    repeats: int = 30,
) -> dict[str, Latency]:
    """The latency of each model on `inputs`; the first model is the reference of the ratios.

    The protocol: inference mode, modules in eval mode, one thread, `warmup` calls of each, then `repeats`
    rounds in which each model runs once (A, B, A, B, …), so that a busy spell of the machine hits all alike.
    Modes, torch's thread count and the garbage collector are restored.

    Args:    models: name to module or any other callable of the inputs; at least one. A callable with
             threads of its own (an ONNX Runtime session) must be told to use as many.
             inputs: one tensor, or a tuple of arguments; its batch size is the one measured.
             threads, warmup, repeats: at least 1, 0 and 1.
    Returns: name to Latency, in the order of models.
    Raises:  ValueError if models is empty, a tensor of the inputs is empty, or a number is out of range;
             TypeError if a model cannot be called. What a model raises passes through.

    >>> latency({"identity": nn.Identity()}, torch.zeros(1))["identity"].ratio
    1.0
    """
    if not models:
        raise ValueError("models is empty: give at least the reference")
    if threads < 1 or warmup < 0 or repeats < 1:
        raise ValueError(
            f"threads and repeats must be at least 1 and warmup 0, got {threads}, {repeats} and {warmup}"
        )
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    for argument in arguments:
        if isinstance(argument, Tensor) and argument.numel() == 0:
            raise ValueError(f"inputs has shape {tuple(argument.shape)}: there is nothing to run on")
    for name, model in models.items():
        if not callable(model):
            raise TypeError(f"models[{name!r}] is a {type(model).__name__}, which cannot be called")
    modules = [model for model in models.values() if isinstance(model, nn.Module)]
    samples_ms: dict[str, list[float]] = {name: [] for name in models}
    with eval_mode(*modules), torch.inference_mode(), _threads(threads), _no_garbage_collection():
        for _ in range(warmup):
            for model in models.values():
                model(*arguments)
        for _ in range(repeats):
            for name, model in models.items():
                started = time.perf_counter_ns()
                model(*arguments)
                samples_ms[name].append((time.perf_counter_ns() - started) / 1e6)
    reference_ms = next(iter(samples_ms.values()))
    return {
        name: Latency(
            median_ms=statistics.median(taken),
            min_ms=min(taken),
            ratio=statistics.median(t / r for t, r in zip(taken, reference_ms, strict=True)),
        )
        for name, taken in samples_ms.items()
    }
