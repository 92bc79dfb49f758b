"""A run that was killed goes on to the same weights; a checkpoint of another run is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from coursekit.distillation import CheckpointError, DistillationLoss, StudentAlone, Weighted, distill
from coursekit.train import Recipe
from tests.coursekit.distillation.smallnets import Hint, images, large, small

ROOT = Path(__file__).parents[3]
RECIPE = Recipe(epochs=3, batch_size=32, peak_lr=0.05, augment=True, max_shift=1, seed=5)  # 7 steps an epoch

KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.coursekit.distillation.test_checkpoint import run
def stop(step):
    if step == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
run(Path(sys.argv[1]), int(sys.argv[3]) or None, stop)
"""


def run(
    checkpoint, every=None, on_step=None, *, seed=0, data=None, recipe=RECIPE, objective=None, teacher=None
):
    """A distillation with all that a run may have: dropout, batch norm, an adapter, augmentation, validation."""
    student = small(seed)
    both = objective or Weighted({"soft": (1.0, DistillationLoss()), "hint": (0.5, Hint())})
    torch.manual_seed(1)
    history = distill(student, teacher or large(), data or images(), both, recipe, validation=images(60),
                      checkpoint=checkpoint, checkpoint_every=every, on_step=on_step)  # fmt: skip
    return student, list(both.parameters()), history


def numbers(student, adapters):
    return [*student.state_dict().values(), *adapters]


@pytest.mark.parametrize("killed_at, every", [(10, None), (12, 5), (14, 7)],
                         ids=["between epochs' ends", "inside an epoch", "just after an epoch"])  # fmt: skip
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, killed_at, every):
    path = tmp_path / "run.safetensors"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLED, str(path), str(killed_at), str(every or 0)]
    killed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    steps = []
    student, adapters, history = run(path, every, steps.append)
    assert steps[0] == {(10, None): 8, (12, 5): 11, (14, 7): 15}[killed_at, every]
    whole, whole_adapters, whole_history = run(None)
    for a, b in zip(numbers(student, adapters), numbers(whole, whole_adapters), strict=True):
        assert torch.equal(a, b)
    assert history == whole_history


def test_a_finished_run_is_read_not_repeated(tmp_path):
    path, steps = tmp_path / "run.safetensors", []
    first, adapters, history = run(path)
    again, same_adapters, same_history = run(path, None, steps.append)
    assert not steps and history == same_history
    for a, b in zip(numbers(first, adapters), numbers(again, same_adapters), strict=True):
        assert torch.equal(a, b)


OTHERS = {
    "recipe": {"recipe": replace(RECIPE, peak_lr=0.06)},
    "student": {"seed": 1},
    "teacher": {"teacher": large(images(64))},
    "objective": {"objective": Weighted({"soft": (1.0, DistillationLoss(alpha=0.6)), "hint": (0.5, Hint())})},
    "data": {"data": images(199)},
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, what):
    path = tmp_path / "run.safetensors"

    def stop(step: int) -> None:
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(path, None, stop)
    kept = path.read_bytes()
    with pytest.raises(CheckpointError, match=f"another {what};.*delete"):
        run(path, **OTHERS[what])
    assert path.read_bytes() == kept


@pytest.mark.parametrize("harm", ["cut", "bit"])
def test_a_damaged_checkpoint_is_refused(tmp_path, harm):
    path = tmp_path / "run.safetensors"
    run(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data if harm == "bit" else data[:-100])
    with pytest.raises(CheckpointError, match="delete it"):
        run(path)


def test_nothing_but_the_checkpoint_is_left_in_the_folder(tmp_path):
    distill(small(), None, images(), StudentAlone(), Recipe(epochs=1), checkpoint=tmp_path / "a" / "run")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["run"]
