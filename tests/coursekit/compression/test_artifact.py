"""The one-file network: the same network comes back, whatever was done to it, and no damaged file does."""

from __future__ import annotations

import copy
import json
import random
import resource
import struct
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from coursekit import data, zoo
from coursekit.compression import (
    ArtifactError,
    Encoded,
    contents,
    decode_tensor,
    factorize_network,
    huffman_encode,
    huffman_stream,
    kmeans,
    load,
    replace_module_,
    save,
    tucker2_conv,
)
from coursekit.measure import saved_size
from coursekit.models import LeNet5
from coursekit.pruning import ChannelPruning, attach_masks, magnitude_scores, make_masks, prune_channels
from coursekit.quantization import quantize_weights


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return data.fashion_mnist("test", subset=True).images[:2]


def pruned(model: nn.Module) -> nn.Module:
    """90 % of the weights zero, globally by magnitude."""
    made = copy.deepcopy(model)
    with torch.no_grad():
        for name, mask in make_masks(magnitude_scores(made), 0.9).items():
            made.get_parameter(name).mul_(mask)
    return made


def shared(model: nn.Module) -> nn.Module:
    """Every weight one of 16 values of its layer, or zero."""
    made = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in made.parameters():
            kept = parameter != 0
            if parameter.dim() > 1 and kept.any():
                found = kmeans(parameter[kept], 16)
                parameter[kept] = found.centroids[found.indices].float()
    return made


def four_bits(model: nn.Module) -> nn.Module:
    return quantize_weights(model, 4)


def low_rank(model: nn.Module) -> nn.Module:
    return factorize_network(model, 0.8, spatial=True)[0]


def narrow(model: nn.Module) -> nn.Module:
    return prune_channels(model, torch.zeros(1, 1, 28, 28), ChannelPruning(ratio=0.4))


STEPS = {"pruned": pruned, "shared": shared, "four_bits": four_bits, "low_rank": low_rank, "narrow": narrow}


def test_each_technique_makes_the_file_smaller_by_itself(tmp_path):
    """By what the form can save at least, the rest of the file left as it is."""
    model = zoo.load("lenet300")
    sizes = {name: save(step(model), tmp_path / name) for name, step in STEPS.items()}
    whole = save(model, tmp_path / "whole")
    assert whole <= saved_size(model)
    assert sizes["pruned"] < 0.2 * whole  # a tenth of the values, and less than a byte for each one's place
    assert sizes["shared"] < 0.14 * whole  # 4 of 32 bits
    assert sizes["four_bits"] < 0.14 * whole
    assert sizes["low_rank"] < whole and sizes["narrow"] < 0.65 * whole
    assert save(shared(pruned(model)), tmp_path / "both") < 0.05 * whole


@pytest.mark.parametrize("steps", [(), ("pruned",), ("pruned", "shared"), ("four_bits",)], ids="+".join)
def test_without_huffman_coding_the_same_comes_back_and_takes_more(steps, images, tmp_path):
    model = zoo.load("lenet300")
    for step in steps:
        model = STEPS[step](model)
    size = save(model, tmp_path / "fixed", huffman=False)
    again = load(tmp_path / "fixed")
    assert all(torch.equal(again.state_dict()[key], tensor) for key, tensor in model.state_dict().items())
    assert size == sum(part.size_bytes for part in contents(tmp_path / "fixed"))
    assert size >= save(model, tmp_path / "coded") if steps else size == save(model, tmp_path / "coded")


def test_a_sequential_of_plain_layers_and_a_tucker_layer_come_back(images, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding="same"), nn.BatchNorm2d(6), nn.ReLU6(), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(96, 10, bias=False),
    )  # fmt: skip
    replace_module_(model, "0", tucker2_conv(model[0], 3, 1))
    save(model, tmp_path / "net")
    assert torch.equal(load(tmp_path / "net")(images), model.eval()(images))


def test_what_has_no_form_is_refused_by_name_and_nothing_is_written(tmp_path):
    model = zoo.load("resnet20")
    model.stage1[0].relu1 = nn.GELU()
    with pytest.raises(TypeError, match=r"stage1\.0\.relu1 is a GELU"):
        save(model, tmp_path / "net")
    with pytest.raises(TypeError, match="a LSTM has no form"):
        save(nn.LSTM(2, 2), tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_a_thousand_damaged_files_are_all_refused(tmp_path):
    """A bit turned over, a piece cut out, a piece doubled, or the end missing, at random places."""
    path, broken = tmp_path / "net", tmp_path / "broken"
    save(shared(pruned(zoo.load("lenet300"))), path)
    whole, chance = path.read_bytes(), random.Random(0)
    for i in range(1000):
        at, n = chance.randrange(len(whole)), chance.randrange(1, 50)
        flipped = bytes([whole[at] ^ 1 << chance.randrange(8)])
        variants = (whole[:at] + flipped + whole[at + 1 :], whole[:at], whole[:at] + whole[at + n :],
                    whole[: at + n] + whole[at:])  # fmt: skip
        if variants[i % 4] == whole:
            continue
        broken.write_bytes(variants[i % 4])
        with pytest.raises(ArtifactError):
            load(broken)


def opened(name: str, path: Path) -> tuple[dict[str, Any], bytes]:
    """The header of a network's file, and all blobs behind it."""
    save(zoo.load(name), path)
    raw = path.read_bytes()
    (n,) = struct.unpack_from("<I", raw, 10)
    return json.loads(zlib.decompress(raw[14 : 14 + n])), raw[14 + n :]


def write(path: Path, header: Any, blobs: bytes) -> None:
    """A file with this header and a checksum that fits it."""
    text = zlib.compress(json.dumps(header).encode())
    body = struct.pack("<I", len(text)) + text + blobs
    path.write_bytes(b"CKNN" + struct.pack("<HI", 1, zlib.crc32(body)) + body)


def peak_mb() -> float:
    """The most memory this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def mutated(value: Any, chance: random.Random) -> Any:
    """The JSON value with one leaf or branch of it replaced by something else."""
    if isinstance(value, dict | list) and value and chance.random() < 0.95:
        made = copy.copy(value)
        key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        made[key] = mutated(value[key], chance)
        return made
    lies: list[Any] = [
        0,
        -1,
        3,
        2**31,
        2**62,
        1e300,
        0.5,
        "",
        "raw",
        "sparse",
        "float64",
        None,
        True,
        [],
        {},
        [[]],
    ]
    return chance.choice([each for each in lies if each != value])


def test_five_hundred_lies_at_random_places_neither_crash_nor_fill_the_memory(tmp_path):
    """With a checksum that fits. A lie may leave a network (another stride, say); nothing else but ArtifactError."""
    path, chance, before, refused = tmp_path / "net", random.Random(0), peak_mb(), 0
    header, blobs = opened("resnet20-half", path)
    for _ in range(500):
        write(path, mutated(header, chance), blobs)
        try:
            assert isinstance(load(path), nn.Module)
        except ArtifactError:
            refused += 1
    assert refused > 300 and peak_mb() - before < 500


GIANTS: dict[str, Any] = {
    "a_layer": [{"kind": "Linear", "in_features": 2**31, "out_features": 2**31, "bias": False}],
    "negative_twice": [{"kind": "Linear", "in_features": -4, "out_features": -4, "bias": False}],
    "a_batch_norm": [{"kind": "BatchNorm2d", "num_features": 2**40, "eps": 1e-5, "momentum": 0.1}],
    "many_layers": [{"kind": "Linear", "in_features": 4096, "out_features": 4096, "bias": False}] * 5000,
}


@pytest.mark.parametrize("name", GIANTS)
def test_giant_sizes_are_refused_before_they_take_memory(name, tmp_path):
    before = peak_mb()
    write(
        tmp_path / "net",
        {"structure": {"skeleton": "Sequential", "layers": GIANTS[name]}, "tensors": []},
        b"",
    )
    with pytest.raises(ArtifactError):
        load(tmp_path / "net")
    assert peak_mb() - before < 500


def test_a_header_nested_without_end_is_refused(tmp_path):
    text = zlib.compress(b"[" * 200_000)
    body = struct.pack("<I", len(text)) + text
    (tmp_path / "net").write_bytes(b"CKNN" + struct.pack("<HI", 1, zlib.crc32(body)) + body)
    with pytest.raises(ArtifactError):
        load(tmp_path / "net")


def test_a_stream_that_claims_four_billion_symbols_is_refused(tmp_path):
    stream = bytearray(huffman_encode(torch.zeros(9, dtype=torch.int64)))
    fields = list(huffman_stream.BODY.unpack_from(stream, huffman_stream.HEAD.size))
    huffman_stream.BODY.pack_into(stream, huffman_stream.HEAD.size, 2**32 - 1, *fields[1:])
    check = zlib.crc32(bytes(stream[huffman_stream.HEAD.size :]))
    huffman_stream.HEAD.pack_into(stream, 0, bytes(stream[:4]), check)
    before = peak_mb()
    codebook = struct.pack("<f", 1.0)
    with pytest.raises(ValueError, match="claims"):
        decode_tensor(
            Encoded("shared-huffman", {"codebook": codebook, "indices": bytes(stream)}), (3, 3), torch.float32
        )
    assert peak_mb() - before < 500


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_a_network_of_another_dtype_comes_back_in_it(dtype, images, tmp_path):
    model = zoo.load("resnet8").to(dtype)
    save(model, tmp_path / "net")
    again = load(tmp_path / "net")
    for key, tensor in model.state_dict().items():
        assert again.state_dict()[key].dtype == tensor.dtype, key
        assert torch.equal(again.state_dict()[key], tensor), key
    assert torch.equal(again(images.to(dtype)), model(images.to(dtype)))


def test_an_option_of_a_layer_that_is_seldom_used_comes_back(images, tmp_path):
    model = nn.Sequential(
        nn.MaxPool2d(3, dilation=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, ceil_mode=True), nn.ReLU6()
    )
    save(model, tmp_path / "net")
    again = load(tmp_path / "net")
    assert str(again) == str(model)  # torch prints the options
    assert torch.equal(again(images), model(images))


class Doubling(LeNet5):
    """Another network under a name that has a form in a file."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def masked() -> nn.Module:
    model = zoo.load("lenet300")
    attach_masks(model, make_masks(magnitude_scores(model), 0.9))
    return model


def with_a_buffer() -> nn.Module:
    model = zoo.load("lenet300")
    model.register_buffer("mean", torch.zeros(1))
    return model


def with_an_untrue_size() -> nn.Module:
    layer = nn.Linear(3, 4)
    layer.out_features = 5
    return nn.Sequential(layer)


def of_a_class_of_the_same_name() -> nn.Module:
    Doubling.__name__ = "LeNet5"
    return Doubling()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (masked, r"the tensor fc1\.weight_mask, torch\.bool \(300, 784\), has no place"),
        (with_a_buffer, "the tensor mean, .* has no place"),
        (with_an_untrue_size, r"the tensor 0\.weight, torch\.float32 \(4, 3\), has no place"),
        (
            lambda: nn.Sequential(OrderedDict(first=nn.Linear(3, 4))),
            r"the tensor first\.weight, .* has no place",
        ),
        (of_a_class_of_the_same_name, "a LeNet5 has no form"),
    ],
    ids=["masked", "buffer", "untrue_size", "named_places", "subclass"],
)
def test_what_would_not_load_again_is_not_written(make, why, tmp_path):
    with pytest.raises(TypeError, match=why):
        save(make(), tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_a_network_too_large_to_load_again_is_not_written(tmp_path):
    with torch.device("meta"):
        giant = nn.Sequential(nn.Linear(10_000, 10_000))
    with pytest.raises(TypeError, match="100,010,000 numbers"):
        save(giant, tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_saving_and_loading_draw_no_random_numbers(tmp_path):
    model = zoo.load("lenet300")
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    save(model, tmp_path / "net")
    assert all(parameter.requires_grad for parameter in load(tmp_path / "net").parameters())
    assert torch.equal(torch.rand(3), expected)


def test_a_header_that_lies_is_refused_though_its_checksum_is_right(tmp_path):
    path = tmp_path / "net"
    header, blobs = opened("lenet300", path)
    lies = [
        {"structure": {"skeleton": "__import__", "options": {}, "parts": {}}},
        {"structure": {"skeleton": "ResNet", "options": {"n_blocks": 10**9}, "parts": {}}},
        {"structure": {"skeleton": "LeNet300100", "options": {}, "parts": {"fc1": {"kind": "eval"}}}},
        {"structure": {"skeleton": "LeNet300100", "options": {}, "parts": {"forward": {"kind": "ReLU"}}}},
        {"structure": {"skeleton": "LeNet300100", "options": {}, "parts": {
            "fc1": {"kind": "Linear", "in_features": 10**6, "out_features": 10**6, "bias": True}}}},
        {"tensors": [[n, s, d, "sparse", {"inner": "sparse"}, x] for n, s, d, _, _, x in header["tensors"]]},
        {"tensors": [[n, s, d, "raw", f, {"else": x["values"]}] for n, s, d, _, f, x in header["tensors"]]},
        {"tensors": header["tensors"][:-1]},
        {"tensors": [*header["tensors"], [*header["tensors"][0][:5], {}]]},
        {"tensors": [each[:5] for each in header["tensors"]]},
        {"tensors": 3},
    ]  # fmt: skip
    for lie in lies:
        write(path, header | lie, blobs)
        with pytest.raises(ArtifactError):
            load(path)


def test_another_version_and_another_kind_of_file_are_said_so(tmp_path):
    path = tmp_path / "net"
    save(zoo.load("lenet300"), path)
    raw = bytearray(path.read_bytes())
    raw[4] = 9
    path.write_bytes(raw)
    with pytest.raises(ArtifactError, match="version 9"):
        load(path)
    path.write_bytes(b"PK\x03\x04 a zip file")
    with pytest.raises(ArtifactError, match="no network file"):
        load(path)
