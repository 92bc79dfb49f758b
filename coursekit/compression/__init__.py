"""Compression: the same network in fewer bytes, each of them counted in a file that loads again."""

from coursekit.compression.huffman import (
    canonical_codes,
    code_lengths,
    entropy,
    expected_bits,
    limited_lengths,
)
from coursekit.compression.huffman_stream import (
    HuffmanStats,
    huffman_decode,
    huffman_encode,
    huffman_stats,
)
from coursekit.compression.kmeans import Clusters, assign, initial_centroids, kmeans, kmeans_exact, lloyd
from coursekit.compression.packing import bits_for, pack, unpack

__all__ = [
    "Clusters",
    "HuffmanStats",
    "assign",
    "bits_for",
    "canonical_codes",
    "code_lengths",
    "entropy",
    "expected_bits",
    "huffman_decode",
    "huffman_encode",
    "huffman_stats",
    "initial_centroids",
    "kmeans",
    "kmeans_exact",
    "limited_lengths",
    "lloyd",
    "pack",
    "unpack",
]
