"""TensorRT where there is none: it is refused, clearly, and nothing claims success. Its calls are checked on a fake."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from coursekit.deploy import EngineUnavailableError, build_tensorrt_plan, tensorrt_engine


def test_without_a_gpu_it_says_so(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    for call in (
        lambda: build_tensorrt_plan(tmp_path / "net.onnx", (1, 28, 28)),
        lambda: tensorrt_engine(b""),
    ):
        with pytest.raises(EngineUnavailableError, match="NVIDIA GPUs only"):
            call()


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def test_without_the_package_it_names_the_right_one(gpu, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineUnavailableError, match="pip install tensorrt "):
        tensorrt_engine(b"")


def test_an_empty_module_of_that_name_is_no_tensorrt(gpu, monkeypatch):
    """The tutorial printed "setup complete" for exactly this."""
    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("tensorrt"))
    with pytest.raises(EngineUnavailableError, match="TensorRT 10 or 11 is needed"):
        build_tensorrt_plan("net.onnx", (1, 28, 28))


def fake(monkeypatch, *, parses=True, plan=b"plan", flags=("STRONGLY_TYPED",)):
    """A stand-in that records what is asked of it, with TensorRT's names."""
    asked = []
    network = SimpleNamespace(get_input=lambda i: SimpleNamespace(name="images"))
    profile = SimpleNamespace(set_shape=lambda *a: asked.append(("shape", *a)))
    config = SimpleNamespace(
        set_memory_pool_limit=lambda *a: asked.append(("memory", *a)),
        add_optimization_profile=lambda p: asked.append(("profile", p is profile)),
    )

    class Builder:
        def __init__(self, logger):
            pass

        create_network = staticmethod(lambda flag: asked.append(("network", flag)) or network)
        create_builder_config = staticmethod(lambda: config)
        create_optimization_profile = staticmethod(lambda: profile)
        build_serialized_network = staticmethod(lambda net, conf: plan)

    module = ModuleType("tensorrt")
    logger = type("Logger", (), {"WARNING": 2, "__init__": lambda self, level: None})
    parser = SimpleNamespace(
        parse_from_file=lambda p: parses, num_errors=1, get_error=lambda i: "no such operator"
    )
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda plan: None)
    for name, value in {
        "Logger": logger,
        "Builder": Builder,
        "OnnxParser": lambda net, log: parser,
        "Runtime": lambda log: runtime,
        "NetworkDefinitionCreationFlag": SimpleNamespace(**dict.fromkeys(flags, 1)),
        "MemoryPoolType": SimpleNamespace(WORKSPACE="workspace"),
    }.items():
        setattr(module, name, value)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return asked


@pytest.fixture
def onnx_file(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"")
    return path


@pytest.mark.parametrize(("flags", "flag"), [(("STRONGLY_TYPED",), 2), ((), 0)], ids=["10", "11"])
def test_the_network_is_strongly_typed_and_every_batch_up_to_the_largest_fits(
    gpu, monkeypatch, onnx_file, flags, flag
):
    asked = fake(monkeypatch, flags=flags)
    assert build_tensorrt_plan(onnx_file, (1, 28, 28), max_batch=8, workspace_bytes=64) == b"plan"
    assert asked == [
        ("network", flag),
        ("memory", "workspace", 64),
        ("shape", "images", (1, 1, 28, 28), (8, 1, 28, 28), (8, 1, 28, 28)),
        ("profile", True),
    ]


def test_what_the_parser_refuses_is_no_engine(gpu, monkeypatch, onnx_file):
    fake(monkeypatch, parses=False)
    with pytest.raises(ValueError, match="no such operator"):
        build_tensorrt_plan(onnx_file, (1, 28, 28))


def test_a_failed_build_and_a_foreign_plan_are_said(gpu, monkeypatch, onnx_file):
    fake(monkeypatch, plan=None)
    with pytest.raises(RuntimeError, match="could not build an engine"):
        build_tensorrt_plan(onnx_file, (1, 28, 28))
    with pytest.raises(ValueError, match="another GPU"):
        tensorrt_engine(b"plan")


def test_a_missing_file_is_said_before_anything_is_built(gpu, monkeypatch, tmp_path):
    asked = fake(monkeypatch)
    with pytest.raises(FileNotFoundError, match="export the network"):
        build_tensorrt_plan(tmp_path / "none.onnx", (1, 28, 28))
    assert asked == []
