"""The search for a pipeline to a budget, and the command around it."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from coursekit import data, zoo
from coursekit.cli import main
from coursekit.compression import ArtifactError, load, save
from coursekit.pipeline import Budget, BudgetError, SearchConfig, command, load_network, search
from coursekit.train import Recipe, evaluate

torch.set_num_threads(1)
QUICK = SearchConfig(
    sparsities=(0.0, 0.5), trained_sparsities=(0.9,), clusters=(32, 8), n_bits=(5,), n_trained=1,
    shares_of_macs=(0.3,), recipe=Recipe(epochs=1, peak_lr=0.01), repeats=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def images():
    return data.fashion_mnist("train", subset=True)


@pytest.fixture(scope="module")
def train(images):
    return images.take(512)


@pytest.fixture(scope="module")
def held_out(images):
    return data.Dataset(images.images[-300:], images.labels[-300:], images.classes, images.source)


def test_the_most_accurate_fit_wins_and_its_bytes_are_its_files(train, held_out, tmp_path):
    network, told = zoo.load("lenet300"), []
    chosen, tried = search(
        network, Budget(size_bytes=200_000), train=train, held_out=held_out, config=QUICK, on_try=told.append
    )
    assert save(chosen.model, tmp_path / "net") == chosen.size_bytes <= 200_000
    assert evaluate(load(tmp_path / "net"), held_out) == pytest.approx(chosen.accuracy)
    assert tried[0].name == "original" and tried[0].accuracy == pytest.approx(evaluate(network, held_out))
    assert chosen.accuracy == max(each.accuracy for each in tried if each.size_bytes <= 200_000)
    assert not any(each.trained for each in tried)  # a fit that loses nothing needs no training
    assert len(told) >= len(tried)


def test_a_tight_budget_is_met_by_pruning_and_training(train, held_out):
    chosen, _ = search(
        zoo.load("lenet300"), Budget(size_bytes=30_000), train=train, held_out=held_out, config=QUICK
    )
    assert chosen.size_bytes <= 30_000 and chosen.trained and "prune 90%, trained" in chosen.steps
    assert all(not each.startswith("prune 50%") for each in chosen.steps)


def test_points_alone_ask_for_the_smallest_file(train, held_out):
    config = SearchConfig(sparsities=(0.0, 0.5), clusters=(32, 8), n_bits=(6,), n_trained=0)
    chosen, tried = search(
        zoo.load("lenet300"), Budget(points=3.0), train=train, held_out=held_out, config=config
    )
    near = [each for each in tried if each.accuracy >= tried[0].accuracy - 0.03]
    assert chosen.size_bytes == min(each.size_bytes for each in near)
    assert len(tried) == 10  # the original, and three codings of two sparsities and of layers split by rank
    assert sum(each.steps[:1] == ("low rank 90%",) for each in tried) == 3


def test_a_latency_budget_makes_the_network_narrower(train, held_out):
    chosen, _ = search(
        zoo.load("lenet300"), Budget(latency_ratio=0.95), train=train, held_out=held_out, config=QUICK
    )
    assert chosen.model.fc1.weight.shape[0] < 150
    assert chosen.steps[0] == "channels to 30% of MACs"


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (Budget(size_bytes=500), "smallest file was"),
        (Budget(size_bytes=60_000, points=0.0), "more than 0"),
        (Budget(latency_ratio=0.001), "the fastest took"),
    ],
    ids=["bytes", "points", "latency"],
)
def test_an_impossible_budget_says_how_near_it_came(budget, message, train, held_out):
    config = SearchConfig(
        sparsities=(0.9,), clusters=(4,), n_bits=(3,), n_trained=0, shares_of_macs=(0.3,), repeats=2
    )
    with pytest.raises(BudgetError, match=message):
        search(zoo.load("lenet300"), budget, train=train, held_out=held_out, config=config)


@pytest.mark.parametrize(
    "wrong",
    [{}, {"size_bytes": 0}, {"latency_ratio": 0.0}, {"latency_ratio": 2.0}, {"points": -1.0}],
    ids=str,
)
def test_a_budget_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match=r"budget|ratio|points"):
        Budget(**wrong)


def test_networks_come_from_the_zoo_and_from_both_kinds_of_file(tmp_path):
    narrow = zoo.load("resnet20-half")
    save(narrow, tmp_path / "net")
    state = {name: tensor.contiguous() for name, tensor in narrow.state_dict().items()}
    save_file(state, tmp_path / "net.safetensors")
    for source in ("resnet20-half", str(tmp_path / "net"), str(tmp_path / "net.safetensors")):
        assert torch.equal(load_network(source).fc.weight, narrow.fc.weight)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "neither a network file"), (b"PK\x03\x04" * 9, "neither a network file"),
     (b"\x08" + b"\0" * 7 + b"{}      ", "no network of coursekit"), (b"\xff\0\0\0\0\0\0\0{", "neither"),
     (b"CKNN\x01\0", "cut off")],
    ids=["empty", "zip", "no_tensors", "cut_off", "artifact"],
)  # fmt: skip
def test_other_files_are_refused_with_the_reason(content, message, tmp_path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises((ValueError, ArtifactError), match=message):
        load_network(str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("text", "expected"), [("200KB", 200_000), ("1.5 MB", 1_500_000), ("64KiB", 65_536), ("7", 7)]
)
def test_sizes_with_units(text, expected):
    assert command.parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "200 apples", "-3KB", "0", "KB"])
def test_other_sizes_are_refused(text):
    with pytest.raises(ValueError, match="is no size"):
        command.parse_bytes(text)


def test_the_command_writes_network_plot_and_report(tmp_path, capsys):
    output = tmp_path / "small.net"
    arguments = ["compress", "lenet300", "--budget", "250KB", "--output", str(output)]
    arguments += ["--train-images", "0", "--held-out", "100"]
    assert main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["size_bytes"] == output.stat().st_size <= 250_000
    assert output.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    assert sum(each["chosen"] for each in report["candidates"]) == 1
    assert report["test"]["points_lost"] < 2
    assert load(output).fc1.weight.shape == (300, 784)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vgg16", "--budget", "9KB"], "neither a network of the zoo"),
        (["lenet300"], "there is no budget"),
        (["lenet300", "--budget", "much"], "is no size"),
        (["lenet300", "--budget", "9KB", "--held-out", "5"], "to hold out"),
        (["lenet300", "--latency", "0.5", "--train-images", "0"], "must be trained"),
    ],
    ids=["model", "no_budget", "size", "held_out", "no_training"],
)
def test_the_command_says_what_is_wrong(arguments, message, capsys):
    assert main(["compress", *arguments]) == 1
    assert message in capsys.readouterr().err
