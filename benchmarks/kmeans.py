"""k-means on a line: all 266,200 weights of LeNet-300-100 in 32 clusters, ours beside kmeans1d and scikit-learn.

    python benchmarks/kmeans.py

One thread, all ways in turn in one process; times are medians of the rounds, and ratios of these.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

import torch  # noqa: E402
from deep_compression_report import machine  # noqa: E402
from torch import Tensor  # noqa: E402

from coursekit import compression, zoo  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "kmeans.json"
CLUSTERS, ROUNDS = 32, 3


def weights() -> Tensor:
    """All weights of LeNet-300-100 in one row."""
    return torch.cat([w.detach().flatten() for w in compression.shareable(zoo.load("lenet300")).values()])


def kmeans1d_error(x: Tensor) -> float:
    """The squared error of kmeans1d's clusters: exact, in C++."""
    import kmeans1d

    clusters, centroids = kmeans1d.cluster(x.double().numpy(), CLUSTERS)
    found = torch.tensor(centroids, dtype=torch.float64)[torch.tensor(clusters)]
    return (x.double() - found).square().sum().item()


def sklearn_error(x: Tensor) -> float:
    """The squared error of scikit-learn's KMeans, one beginning (k-means++)."""
    from sklearn.cluster import KMeans

    return float(KMeans(CLUSTERS, n_init=1, random_state=0).fit(x.double().numpy()[:, None]).inertia_)


WAYS: dict[str, Callable[[Tensor], float]] = {
    "kmeans (ours)": lambda x: compression.kmeans(x, CLUSTERS).error,
    "kmeans_exact (ours)": lambda x: compression.kmeans_exact(x, CLUSTERS).error,
    "kmeans1d": kmeans1d_error,
    "scikit-learn KMeans": sklearn_error,
}


def main() -> None:
    """Measures every way, writes the rows and the table."""
    torch.set_num_threads(1)
    x, errors = weights(), {}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(ROUNDS):
        for way, error_of in WAYS.items():
            started = time.process_time()  # the processor's time: the machine may be busy
            errors[way] = error_of(x)
            seconds[way].append(time.process_time() - started)
            print(way, seconds[way][-1], errors[way], flush=True)
    exact, slow = errors["kmeans_exact (ours)"], statistics.median(seconds["scikit-learn KMeans"])
    lines = [
        "# k-means on a line",
        "",
        f"{len(x):,} weights of LeNet-300-100, {CLUSTERS} clusters. {machine()}; processor time, median of {ROUNDS}.",
        "",
        "| way | error over the exact one | seconds | times as fast as scikit-learn |",
        "| --- | --- | --- | --- |",
    ]
    rows = {}
    for way in WAYS:
        t = statistics.median(seconds[way])
        rows[way] = {"error": errors[way], "seconds": seconds[way]}
        lines.append(f"| {way} | {errors[way] / exact:.4f} | {t:.3f} | {slow / t:.1f} |")
    RESULTS.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n", encoding="utf-8")
    RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
