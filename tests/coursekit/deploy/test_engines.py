"""Engines agree with the network they run, say what they lack, and keep to themselves."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from coursekit import data, zoo
from coursekit.deploy import (
    Engine,
    EngineUnavailableError,
    eager,
    engine_accuracy,
    engines,
    export_float,
    export_qdq,
    inductor,
    inductor_int8,
    measured_engines,
    onnx_runtime,
    openvino,
    torchao_weight_only,
)
from coursekit.quantization import quantize_static
from coursekit.train import evaluate


@pytest.fixture(scope="module")
def test_set():
    return data.fashion_mnist("test", subset=True).take(500)


@pytest.fixture(scope="module")
def calibration():
    return data.fashion_mnist("train", subset=True).take(256).images


@pytest.fixture(scope="module")
def network():
    return zoo.load("lenet300")


@pytest.fixture(scope="module")
def files(network, calibration, tmp_path_factory):
    """The network as ONNX, in float32 and in int8."""
    folder = tmp_path_factory.mktemp("onnx")
    export_float(network, folder / "fp32.onnx")
    export_qdq(quantize_static(network, calibration), folder / "int8.onnx")
    return folder / "fp32.onnx", folder / "int8.onnx"


@pytest.mark.parametrize("build", [onnx_runtime, openvino], ids=["onnx_runtime", "openvino"])
def test_float_engines_compute_the_networks_logits(build, network, files, test_set):
    images = test_set.images[:7]
    with torch.no_grad():
        expected = network(images)
    # Three layers of up to 784 products, summed in float32 in another order.
    torch.testing.assert_close(build(files[0])(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("build", [onnx_runtime, openvino], ids=["onnx_runtime", "openvino"])
def test_int8_engines_get_as_much_right(build, network, files, test_set):
    accuracy = engine_accuracy(build(files[1], "int8"), test_set)
    assert abs(accuracy - evaluate(network, test_set)) <= 0.02  # 10 images of 500


def test_openvino_results_do_not_share_a_buffer(files, test_set):
    engine = openvino(files[0])
    first = engine(test_set.images[:2])
    before = first.clone()
    engine(test_set.images[2:4])
    assert torch.equal(first, before)


def test_inductor_agrees_in_float_and_in_int8(network, calibration, test_set):
    """No gradients are wanted in either, and a call in inference mode needs no second compilation."""
    example = test_set.images[:50]
    exact, small = inductor(network, example), inductor_int8(network, calibration, example)
    with torch.inference_mode():
        torch.testing.assert_close(exact(example), network(example), rtol=1e-4, atol=1e-4)
        off = (small(example) - network(example)).norm() / network(example).norm()
    assert 0 < off < 0.1  # int8, and close: 8 bits are about 40 dB, a hundredth, for each layer
    assert abs(engine_accuracy(small, test_set, 50) - evaluate(network, test_set)) <= 0.02
    assert (exact.name, small.name) == ("Inductor fp32", "Inductor int8")


def test_torchaos_quantize_leaves_convolutions_alone():
    """Why `inductor_int8` goes by way of pt2e."""
    lenet = torchao_weight_only(zoo.load("lenet5"))
    assert type(lenet.conv1.weight) is torch.nn.Parameter
    assert type(lenet.fc1.weight.data) is not torch.Tensor


def test_eager_is_a_copy_in_eval_mode():
    resnet = zoo.load("resnet20").train()
    engine = eager(resnet)
    images = data.fashion_mnist("test", subset=True).images[:4]
    with torch.no_grad():
        torch.testing.assert_close(engine(images)[:1], engine(images[:1]), rtol=1e-4, atol=1e-4)
    assert resnet.training


def test_accuracy_fills_the_last_batch_and_counts_every_image_once(test_set):
    sizes = []

    def perfect(images):
        sizes.append(len(images))
        answers = {
            image.numpy().tobytes(): label
            for image, label in zip(test_set.images, test_set.labels, strict=True)
        }
        return torch.nn.functional.one_hot(torch.stack([answers[i.numpy().tobytes()] for i in images]), 10)

    assert engine_accuracy(Engine("perfect", perfect), test_set.take(70), 32) == 1.0
    assert sizes == [32, 32, 32]
    with pytest.raises(ValueError, match="nothing to run"):
        engine_accuracy(Engine("perfect", perfect), test_set, 0)


def test_what_is_missing_is_said_with_how_to_get_it(monkeypatch, tmp_path, network):
    monkeypatch.setattr(engines.shutil, "which", lambda name: None)
    with pytest.raises(EngineUnavailableError, match=r"apt install g\+\+"):
        inductor(network, torch.zeros(1, 1, 28, 28))
    with pytest.raises(FileNotFoundError, match="export"):
        onnx_runtime(tmp_path / "none.onnx")
    with pytest.raises(FileNotFoundError, match="export"):
        openvino(tmp_path / "none.onnx")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineUnavailableError, match="pip install openvino"):
        openvino(tmp_path / "none.onnx")


def test_importing_openvino_through_us_reports_nothing(files, tmp_path):
    """By itself `import openvino` writes a client id into the home folder and tells www.google-analytics.com."""
    program = f"""
import socket
asked = []
socket.getaddrinfo = lambda *a, **k: asked.append(a) or []
from coursekit.deploy import openvino
import torch
openvino({str(files[0])!r})(torch.zeros(1, 1, 28, 28))
import openvino.tools.ovc
print(type(openvino.tools.ovc.telemetry).__module__, asked)
"""
    env = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env
    )
    assert done.stdout.strip() == "openvino.tools.ovc.telemetry_stub []"
    assert not any(each.name == "intel" for each in tmp_path.iterdir())


def test_the_shipped_measurement_names_its_machine_and_has_every_network():
    measured = measured_engines()
    assert "one thread" in measured["machine"]
    assert set(measured["parts"]) == {
        f"{net},{batch}" for net in ("lenet300", "lenet5", "resnet20") for batch in (1, 64)
    }
    for part in measured["parts"].values():
        assert set(part["pairs"]) == {"Inductor", "ONNX Runtime", "OpenVINO"}
