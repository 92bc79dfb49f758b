"""Exported networks in ONNX Runtime: the float one computes what PyTorch does, the quantized one our codes."""

from __future__ import annotations

import collections

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from coursekit import zoo
from coursekit.data import fashion_mnist
from coursekit.deploy import OrtModel, export_float, export_layer, export_qdq
from coursekit.measure import latency
from coursekit.models import mobilenet_v2
from coursekit.quantization import StaticConfig, UnsupportedLayerError, quantize_static
from coursekit.train import predict


@pytest.fixture(scope="module")
def images():
    return fashion_mnist("train", subset=True).images[:100]


@pytest.fixture(scope="module")
def batch():
    return fashion_mnist("test", subset=True).images[:50]


class Odds(nn.Module):
    """What the zoo's networks do not use: a sum that is not followed by a ReLU, ReLU6, concatenation, other pools."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, stride=2, padding=(1, 2), dilation=(1, 2))
        self.left = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        self.average = nn.AvgPool2d(2)
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = nn.functional.relu6(self.stem(x))
        y = self.left(x)
        y = torch.relu(y) + y
        x = self.average(self.pool(torch.cat([x, y], dim=1)))
        return self.fc(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def network(name: str) -> nn.Module:
    if name in zoo.available():
        return zoo.load(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return (mobilenet_v2() if name == "mobilenet_v2" else Odds()).eval()


NETWORKS = pytest.mark.parametrize("name", ["lenet300", "lenet5", "resnet20", "mobilenet_v2", "odds"])


@NETWORKS
def test_the_float_export_computes_what_pytorch_computes(name, batch, tmp_path):
    model = network(name)
    export_float(model, tmp_path / "float.onnx")
    ours, theirs = predict(model, batch), OrtModel(tmp_path / "float.onnx")(batch)
    assert theirs.dtype == torch.float32
    # float32 sums of some hundred terms in another order, relative to the largest logit.
    assert (ours - theirs).abs().max() <= 1e-5 * max(1.0, ours.abs().max().item()) * 2


@NETWORKS
def test_logits_are_within_one_step_of_ours(name, images, batch, tmp_path):
    quantized = quantize_static(network(name), images)
    export_qdq(quantized, tmp_path / "int8.onnx")
    logits = OrtModel(tmp_path / "int8.onnx")(batch)
    codes = quantized.output.back(logits)
    assert torch.allclose(quantized.output.values(codes), logits, rtol=0, atol=1e-3 * quantized.output.scale)
    difference = (codes.int() - quantized.codes(batch).int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() <= 0.02


@NETWORKS
def test_every_layer_alone_is_within_one_step_of_ours_on_the_same_codes(name, images, batch, tmp_path):
    quantized = quantize_static(network(name), images)
    codes = quantized.layer_codes(batch[:10])
    for step in quantized.steps:
        inputs = [codes[source] for source in step.inputs]
        export_layer(step, tmp_path / "layer.onnx", *(tuple(q.shape[1:]) for q in inputs))
        difference = OrtModel(tmp_path / "layer.onnx").step(*inputs).int() - codes[step.name].int()
        assert difference.abs().max() <= 1, step.name
        # float32 is off by 2**-17 at a code near 128; a sum takes few distinct values, all near a half or none.
        assert (difference != 0).float().mean() <= 1e-3, step.name


def test_the_codes_of_all_layers_can_be_read(images, batch, tmp_path):
    quantized = quantize_static(zoo.load("resnet20"), images)
    export_qdq(quantized, tmp_path / "layers.onnx", layer_codes=True)
    theirs, ours = OrtModel(tmp_path / "layers.onnx").layer_codes(batch), quantized.layer_codes(batch)
    assert list(theirs) == list(ours)
    assert torch.equal(theirs["input"], ours["input"])
    for name, q in ours.items():
        assert theirs[name].dtype == torch.int8 and theirs[name].shape == q.shape
        assert (theirs[name] != q).float().mean() <= 0.01, name
    export_qdq(quantized, tmp_path / "logits.onnx")
    with pytest.raises(ValueError, match="layer_codes=True"):
        OrtModel(tmp_path / "logits.onnx").layer_codes(batch)


def test_onnx_runtime_computes_every_layer_in_integers(images, tmp_path):
    export_qdq(quantize_static(zoo.load("resnet20"), images), tmp_path / "int8.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(tmp_path / "int8.onnx", options, providers=["CPUExecutionProvider"])
    kinds = collections.Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert kinds["QLinearConv"] == 21 and kinds["QLinearAdd"] == 9
    assert kinds["QuantizeLinear"] == kinds["DequantizeLinear"] == 1  # of the image and of the logits
    assert not kinds["Conv"] + kinds["Gemm"] + kinds["Add"]


@pytest.mark.parametrize(
    "config", [StaticConfig(4, 8, False), StaticConfig(8, 5)], ids=["weights", "activations"]
)
def test_fewer_bits_are_exported_too(config, images, batch, tmp_path):
    quantized = quantize_static(zoo.load("lenet5"), images, config)
    export_qdq(quantized, tmp_path / "few.onnx", layer_codes=True)
    theirs, ours = OrtModel(tmp_path / "few.onnx").layer_codes(batch), quantized.layer_codes(batch)
    for name, q in ours.items():
        assert (theirs[name].int() - q.int()).abs().max() <= 1, name


def test_the_runner_fits_into_the_latency_protocol(batch, tmp_path):
    export_float(zoo.load("lenet300"), tmp_path / "float.onnx")
    model = OrtModel(tmp_path / "float.onnx")
    assert latency({"a": model, "b": model}, batch, warmup=1, repeats=3)["b"].median_ms > 0


def test_unknown_layers_and_missing_files_are_named(tmp_path):
    with pytest.raises(UnsupportedLayerError, match="GELU"):
        export_float(nn.Sequential(nn.Linear(4, 4), nn.GELU()).eval(), tmp_path / "never.onnx", (4,))
    assert not (tmp_path / "never.onnx").exists()
    with pytest.raises(FileNotFoundError, match="export a network there first"):
        OrtModel(tmp_path / "never.onnx")
