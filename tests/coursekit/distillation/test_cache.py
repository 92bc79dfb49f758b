"""The teacher's outputs on disk: the same training, found again, made anew when anything changed."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from coursekit.distillation import cache as cache_module
from coursekit.distillation import distill, teacher_key, teacher_outputs
from coursekit.train import Recipe
from tests.coursekit.distillation.smallnets import Hint, Soft, images, large, small

PLAIN = Recipe(epochs=2, batch_size=32, peak_lr=0.05)


class Counting(nn.Module):
    """A teacher that counts the images it is shown, outside its weights."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.count = inner, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += len(x)
        return self.inner(x)


def trained(cache: Path | None, objective: object, recipe: Recipe = PLAIN) -> nn.Module:
    student = small()
    torch.manual_seed(1)
    distill(student, large(images()), images(), objective, recipe, cache=cache)  # type: ignore[arg-type]
    return student


def test_logits_from_disk_give_the_same_weights_bit_for_bit(tmp_path):
    none, writing, reading = trained(None, Soft()), trained(tmp_path, Soft()), trained(tmp_path, Soft())
    for a, b, c in zip(none.parameters(), writing.parameters(), reading.parameters(), strict=True):
        assert torch.equal(a, b) and torch.equal(b, c)
    assert len(list(tmp_path.iterdir())) == 1


def test_features_from_disk_give_the_same_training(tmp_path):
    fresh, cached = trained(None, Hint()), trained(tmp_path, Hint())
    for a, b in zip(fresh.parameters(), cached.parameters(), strict=True):
        torch.testing.assert_close(
            a, b, rtol=1e-4, atol=1e-5
        )  # a batch of other images may round differently


def test_the_outputs_are_the_teachers_for_every_image():
    teacher, data = large(images()), images()
    outputs = teacher_outputs(teacher, data.images, layers=("0",), batch_size=37)
    torch.testing.assert_close(outputs["logits"], teacher(data.images).detach())
    torch.testing.assert_close(outputs["features/0"], teacher[0](data.images).detach())
    assert not any(value.requires_grad for value in outputs.values())


def test_a_second_run_does_not_ask_the_teacher_again(tmp_path):
    teacher = Counting(large())
    counts = []
    for _ in range(2):
        distill(small(), teacher, images(), Soft(), PLAIN, cache=tmp_path)
        counts.append(teacher.count)
    assert counts[0] >= 200
    assert counts[1] - counts[0] < 20  # the few images of the key


def test_augmented_images_are_shown_to_the_teacher_and_not_cached(tmp_path):
    teacher = Counting(large())
    distill(small(), teacher, images(), Soft(), Recipe(epochs=2, batch_size=32, augment=True), cache=tmp_path)
    assert teacher.count == 400
    assert not list(tmp_path.iterdir())


def test_the_key_changes_with_all_that_the_outputs_depend_on():
    teacher, x = large(), images().images
    keys = {teacher_key(teacher, x), teacher_key(teacher, x, ("0",)), teacher_key(teacher, x, (), True)}
    keys.add(teacher_key(teacher, x.flip(0)))
    other = copy.deepcopy(teacher)
    with torch.no_grad():
        other[5].bias[3] += 1e-3
    keys.add(teacher_key(other, x))
    shaped = nn.Sequential(*[copy.deepcopy(layer) for layer in teacher])
    shaped[2] = nn.LeakyReLU(0.1)
    keys.add(teacher_key(shaped, x))
    assert len(keys) == 6
    assert teacher_key(copy.deepcopy(teacher), x.clone()) == teacher_key(teacher, x)


@pytest.mark.parametrize("harm", ["cut", "bit", "empty", "other"])
def test_a_damaged_file_is_made_anew(tmp_path, harm):
    teacher, x = large(), images().images
    whole = teacher_outputs(teacher, x, folder=tmp_path)["logits"]
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    if harm == "bit":
        data[-5] ^= 4
    path.write_bytes({"cut": data[:-9], "bit": data, "empty": b"", "other": b"{}" * 40}[harm])
    with pytest.warns(UserWarning, match="asked again"):
        again = teacher_outputs(teacher, x, folder=tmp_path)["logits"]
    assert torch.equal(again, whole)
    assert torch.equal(teacher_outputs(teacher, x, folder=tmp_path)["logits"], whole)  # and no warning


def test_features_too_large_to_keep_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(cache_module, "MOST_BYTES", 100_000)
    with pytest.raises(ValueError, match="fewer layers"):
        teacher_outputs(large(), images().images, layers=("0",), folder=tmp_path)
    assert not list(tmp_path.iterdir())
