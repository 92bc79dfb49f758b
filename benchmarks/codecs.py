"""Huffman coding and k-means on the weights of every shipped network, beside the packages people use.

    python benchmarks/codecs.py

Three parts: bits a symbol beside the entropy; decoding speed beside zlib, zstd and dahuffman; k-means beside
scikit-learn and kmeans1d, with its memory. All run in one process on one thread, each round running every candidate
once. Times are processor times, which other work on the machine lengthens less than the clock's; ratios are medians
over the rounds' own ratios. Tables and a plot, with the machine's name and load, are written to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

import dahuffman
import kmeans1d
import matplotlib.pyplot as plt
import torch
import zstandard
from sklearn.cluster import KMeans
from torch import Tensor

from coursekit import plot, zoo
from coursekit.compression import (
    encode_gaps,
    huffman_decode,
    huffman_encode,
    huffman_stats,
    kmeans,
    kmeans_exact,
)
from coursekit.measure import peak_memory
from coursekit.quantization import quantize, symmetric_scale_per_channel, weight_names

RESULTS = Path(__file__).parent / "results"
SETTINGS = "KMeans(32, init='k-means++', n_init=1, random_state=seed)"
TOGETHER = "8 bits, zeros among them"
Calls = dict[str, Callable[[], Any]]


def weights(name: str) -> list[Tensor]:
    """The weights of a network's linear layers and convolutions."""
    model = zoo.load(name)
    return [model.get_parameter(each).detach() for each in weight_names(model)]


def int8_codes(layers: list[Tensor]) -> Tensor:
    """Codes of 8 bits, a scale a channel, as symbols from 0 to 255."""
    codes = [quantize(w, symmetric_scale_per_channel(w)).flatten() for w in layers]
    return torch.cat(codes).to(torch.int64) + 128


def symbols_of(name: str) -> dict[str, Tensor]:
    """A network's streams of symbols, as our file format codes them: of a sparse one, values and gaps apart."""
    layers = weights(name)
    flat = torch.cat([w.flatten() for w in layers])
    kept = flat != 0
    if kept.float().mean() > 0.75:
        return {"8 bits": int8_codes(layers), "5 bits": kmeans(flat, 32).indices}
    return {
        "8 bits, values": int8_codes(layers)[kept],
        "5 bits, values": kmeans(flat[kept], 32).indices,
        "gaps": encode_gaps(kept),
        TOGETHER: int8_codes(layers),
    }


def bits() -> list[dict[str, Any]]:
    """Entropy, words and whole file in bits a symbol: a row a network and a stream."""
    rows = []
    for name in zoo.available():
        found = {}
        for stream, symbols in symbols_of(name).items():
            found[stream] = {"symbols": symbols.numel(), **vars(huffman_stats(symbols))}
        rows += [{"network": name, "stream": stream, **row} for stream, row in found.items()]
        if TOGETHER in found:
            rows.append({"network": name, "stream": "the same as values and gaps", **_apart(found)})
    return rows


def _apart(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Bits a weight, and words, of values and gaps in streams of their own, beside the entropy of all in one."""
    n, parts = found[TOGETHER]["symbols"], [found["8 bits, values"], found["gaps"]]
    bits_of = {key: sum(part["symbols"] * part[key] for part in parts) / n for key in ("expected", "real")}
    return {"symbols": n, "entropy": found[TOGETHER]["entropy"], **bits_of, "per_word": ""}


def interleaved(
    calls: Calls, repeats: dict[str, int], rounds: int, slow: dict[str, int]
) -> dict[str, list[float]]:
    """Processor seconds of one call of each, a list over the rounds; those in `slow` run in the first so many only."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(2):
        for name, call in calls.items():
            if name not in slow:
                call()
    for round_ in range(rounds):
        for name, call in calls.items():
            if round_ >= slow.get(name, rounds):
                continue
            n = repeats.get(name, 1)
            start = time.process_time()
            for _ in range(n):
                call()
            taken[name].append((time.process_time() - start) / n)
    return taken


def ratio(times: dict[str, list[float]], slower: str, faster: str) -> float:
    """How many times as fast the second is: the median over the rounds in which both ran."""
    return statistics.median(a / b for a, b in zip(times[slower], times[faster], strict=False))


def decoding() -> list[dict[str, Any]]:
    """Million symbols a second of each decoder, on one network and on all dense ones, in 5 and in 8 bits."""
    everything = {name: symbols_of(name) for name in zoo.available()}
    dense = [name for name, streams in everything.items() if "8 bits" in streams]
    sources = {
        f"{label}, {stream}": torch.cat([everything[name][stream] for name in names])
        for label, names in (("lenet300", ["lenet300"]), ("all dense networks", dense))
        for stream in ("5 bits", "8 bits")
    }
    return [_decoding(label, symbols) for label, symbols in sources.items()]


def _decoding(label: str, symbols: Tensor) -> dict[str, Any]:
    raw = symbols.to(torch.uint8).numpy().tobytes()
    coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    deflated = coder.compress(raw) + coder.flush()
    frame = zstandard.ZstdCompressor(level=3).compress(raw)
    theirs = dahuffman.HuffmanCodec.from_data(raw)
    coded, ours = theirs.encode(raw), huffman_encode(symbols)
    assert torch.equal(huffman_decode(ours), symbols)
    assert zlib.decompress(deflated, -15) == raw == bytes(theirs.decode(coded))
    calls: Calls = {
        "ours": lambda: huffman_decode(ours),
        "zlib, Huffman only": lambda: zlib.decompress(deflated, -15),
        "zstd, level 3": lambda: zstandard.ZstdDecompressor().decompress(frame),
        "dahuffman": lambda: theirs.decode(coded),
    }
    repeats = {"ours": 3, "zlib, Huffman only": 8, "zstd, level 3": 30}
    times = interleaved(calls, repeats, rounds=15, slow={"dahuffman": 3})
    sizes = {
        "ours": len(ours),
        "zlib, Huffman only": len(deflated),
        "zstd, level 3": len(frame),
        "dahuffman": len(coded),
    }
    return {
        "source": label, "symbols": symbols.numel(), "bytes": sizes,
        "million_a_second": {name: symbols.numel() / statistics.median(t) / 1e6 for name, t in times.items()},
        "ours_over_dahuffman": ratio(times, "dahuffman", "ours"),
        "ours_over_zlib": ratio(times, "zlib, Huffman only", "ours"),
    }  # fmt: skip


def clustering(rounds: int = 3) -> dict[str, Any]:
    """k-means with 32 clusters of LeNet-300-100's weights: errors over the exact one, times, and peak memory."""
    x = torch.cat([w.flatten() for w in weights("lenet300")])
    column, numbers = x.double().numpy()[:, None], x.double().tolist()
    exact = kmeans_exact(x, 32).error
    default, converged = "scikit-learn, default tolerance", "scikit-learn, until nothing moves"
    errors: dict[str, list[float]] = {"ours": [], default: [], converged: [], "kmeans1d": []}

    def theirs(name: str, **settings: Any) -> None:
        model = KMeans(32, init="k-means++", n_init=1, random_state=len(errors[name]), **settings)
        errors[name].append(model.fit(column).inertia_ / exact)

    def one_d() -> None:
        found = kmeans1d.cluster(numbers, 32)
        centres = torch.tensor(found.centroids, dtype=torch.float64)[found.clusters]
        errors["kmeans1d"].append((x.double() - centres).square().sum().item() / exact)

    calls: Calls = {
        "ours": lambda: errors["ours"].append(kmeans(x, 32).error / exact),
        default: lambda: theirs(default),
        converged: lambda: theirs(converged, tol=0, max_iter=3000),
        "kmeans1d": one_d,
    }
    times = interleaved(
        calls, {"ours": 5}, rounds, slow=dict.fromkeys((default, converged, "kmeans1d"), rounds)
    )
    return {
        "values": x.numel(), "clusters": 32, "exact_error": exact, "settings": SETTINGS,
        "error_over_exact": {name: statistics.median(found) for name, found in errors.items()},
        "seconds": {name: statistics.median(t) for name, t in times.items()},
        "times_as_slow": {name: ratio(times, name, "ours") for name in calls},
        "memory": _memory(),
    }  # fmt: skip


def _memory() -> list[dict[str, int]]:
    """Peak bytes of k-means with 32 clusters on 1/4, 1/2 and all of the weights of all networks."""
    x = torch.cat([w.flatten() for name in zoo.available() for w in weights(name)])
    x = x[x != 0]
    kmeans(x[:5000], 32)
    sizes = [x.numel() // 4, x.numel() // 2, x.numel()]
    return [{"values": n, "peak_bytes": peak_memory(lambda n=n: kmeans(x[:n], 32))} for n in sizes]


def machine() -> str:
    """Processor, cores, threads, versions."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")]
    versions = (
        f"torch {torch.__version__}, zlib {zlib.ZLIB_RUNTIME_VERSION}, zstandard {zstandard.__version__}"
    )
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, one thread; {versions}"


def markdown(results: dict[str, Any]) -> str:
    """All tables."""
    load = ", ".join(f"{each:.1f}" for each in results["load"])
    lines = ["# Codecs", "", f"Measured on {results['machine']}; load average {load}. Processor times.", "",
             "## Bits a symbol", "",
             "| network | stream | symbols | entropy | words | over it | whole file | symbols a word |",
             "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for row in results["bits"]:
        over = row["expected"] - row["entropy"]
        lines.append(f"| {row['network']} | {row['stream']} | {row['symbols']:,} | {row['entropy']:.4f} | "
                     f"{row['expected']:.4f} | {over:.4f} | {row['real']:.4f} | {row['per_word']} |")  # fmt: skip
    names = list(results["decoding"][0]["million_a_second"])
    lines += ["", "Words are for one symbol or for two, whichever makes the file smaller. Below the entropy, which is "
              "that of symbols one by one: neighbours are not independent. Zeros among the values, "
              "nine of ten symbols, get a whole bit where 0.15 would do: our file codes gaps and values apart, in less "
              "than the entropy of both together.", "", "## Decoding, million symbols a second (bytes coded)", "",
              "| symbols | " + " | ".join(names) + " | ours / dahuffman | ours / zlib |",
              "| --- |" + " ---: |" * (len(names) + 2)]  # fmt: skip
    for row in results["decoding"]:
        cells = [f"{row['million_a_second'][n]:.1f} ({row['bytes'][n]:,})" for n in names]
        lines.append(f"| {row['source']}, {row['symbols']:,} | " + " | ".join(cells)
                     + f" | {row['ours_over_dahuffman']:.0f} | {row['ours_over_zlib']:.3f} |")  # fmt: skip
    found = results["clustering"]
    lines += ["", f"## k-means: {found['values']:,} weights of LeNet-300-100, {found['clusters']} clusters", "",
              "| | error / exact | seconds | times as slow as ours |", "| --- | ---: | ---: | ---: |"]  # fmt: skip
    for name, seconds in found["seconds"].items():
        lines.append(
            f"| {name} | {found['error_over_exact'][name]:.5f} | {seconds:.4f} | {found['times_as_slow'][name]:.0f} |"
        )
    lines += ["", f"scikit-learn: `{found['settings']}`, a seed a round, one thread; its default tolerance stops it "
              "above 1 % of the exact error, `tol=0, max_iter=3000` lets it go on. kmeans1d is exact.", "",
              "| values | peak memory | bytes a value |", "| ---: | ---: | ---: |"]  # fmt: skip
    for row in found["memory"]:
        peak, n = row["peak_bytes"], row["values"]
        lines.append(f"| {n:,} | {peak / 1e6:.1f} MB | {peak / n:.0f} |")
    return "\n".join(lines) + "\n"


def draw(results: dict[str, Any]) -> None:
    """Decoding speeds and the times of k-means, one beside the other."""
    figure, (left, right) = plt.subplots(2, 1, figsize=(8, 6))
    speeds = results["decoding"][-1]["million_a_second"]
    plot.bars(speeds, logy=True, fmt="{:.3g}", ylabel="million symbols a second", ax=left,
              title=f"Decoding in NumPy: between Python and C ({results['decoding'][-1]['source']})")  # fmt: skip
    seconds = {name.replace(", ", ",\n"): t for name, t in results["clustering"]["seconds"].items()}
    plot.bars(seconds, logy=True, fmt="{:.3g}", ylabel="processor seconds", ax=right,
              title="k-means, 266,200 weights, 32 clusters: the time of a few sorts")  # fmt: skip
    figure.tight_layout()
    figure.savefig(RESULTS / "codecs.png", dpi=110)
    plt.close(figure)


def main() -> None:
    """Measures all parts and writes codecs.json, codecs.md and codecs.png."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    torch.set_num_threads(1)
    RESULTS.mkdir(exist_ok=True)
    results: dict[str, Any] = {"machine": machine(), "load": os.getloadavg()}
    for part, measure in (("bits", bits), ("decoding", decoding), ("clustering", clustering)):
        print(f"{part} …", flush=True)
        results[part] = measure()
    (RESULTS / "codecs.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "codecs.md").write_text(markdown(results), encoding="utf-8")
    draw(results)
    print(markdown(results))


if __name__ == "__main__":
    main()
