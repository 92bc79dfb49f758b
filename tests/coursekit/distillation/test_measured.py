"""What the distillation benchmark claims, checked against what ships."""

from __future__ import annotations

import os
import statistics

import pytest
import torch

from coursekit import zoo
from coursekit.compression.artifact import load, save
from coursekit.distillation import distillation_curves


@pytest.fixture(scope="module")
def rows() -> dict:
    return distillation_curves()["rows"]


def test_a_teacher_adds_more_than_the_spread_for_a_student_under_30_000_parameters(rows):
    assert zoo.card("resnet8-distilled")["parameters"] < 30_000
    assert rows["kd"]["seeds"] == rows["alone"]["seeds"] and len(rows["kd"]["seeds"]) >= 3
    gains = [a - b for a, b in zip(rows["kd"]["accuracy"], rows["alone"]["accuracy"], strict=True)]
    assert min(gains) > 0
    assert statistics.fmean(gains) > statistics.stdev(gains)
    assert statistics.fmean(gains) > max(rows["kd"]["sd"], rows["alone"]["sd"])


def test_means_and_deviations_are_those_of_the_seeds(rows):
    for row in rows.values():
        assert row["mean"] == pytest.approx(statistics.fmean(row["accuracy"]), abs=1e-5)
        if len(row["accuracy"]) > 1:
            assert row["sd"] == pytest.approx(statistics.stdev(row["accuracy"]), abs=1e-5)


def test_the_parts_of_each_curve_add_up_to_its_loss(rows):
    for row in rows.values():
        parts = [curve for name, curve in row["curves"].items() if name != "loss"]
        for loss, *terms in zip(row["curves"]["loss"], *parts, strict=True) if parts else ():
            assert sum(terms) == pytest.approx(loss, abs=6e-5 * (1 + len(terms)))  # four digits are kept


def test_the_students_in_the_zoo_are_seed_0_of_their_rows(rows):
    for name, way in {"resnet8": "alone", "resnet8-distilled": "kd"}.items():
        assert rows[way]["seeds"][0] == 0
        assert zoo.card(name)["test_accuracy"] == pytest.approx(rows[way]["accuracy"][0], abs=6e-5)


def test_a_taught_student_keeps_98_5_per_cent_of_its_teacher_in_a_twentieth_of_the_bytes(tmp_path):
    name, parent = "resnet8-of-lenet5", zoo.path("lenet5")
    student = zoo.load(name)
    save(student, tmp_path / "student.net")
    assert 20 * os.path.getsize(tmp_path / "student.net") <= os.path.getsize(parent)
    assert zoo.card(name)["teacher"] == "lenet5"
    assert zoo.card(name)["test_accuracy"] >= 0.985 * zoo.card("lenet5")["test_accuracy"]
    again = load(tmp_path / "student.net")
    for key, value in student.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)
