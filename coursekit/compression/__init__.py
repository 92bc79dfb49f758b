"""Compression: the same network in fewer bytes, each of them counted in a file that loads again."""

from coursekit.compression.artifact import ArtifactError, Part, contents, load, save
from coursekit.compression.encodings import Encoded, decode_gaps, decode_tensor, encode_gaps, encode_tensor
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
from coursekit.compression.lowrank import (
    SvdFactors,
    break_even_rank,
    conv_like,
    factorize_,
    factorize_conv,
    factorize_conv_spatial,
    factorize_linear,
    factorize_network,
    rank_for_energy,
    replace_module_,
    truncated_svd,
    weight_matrix,
)
from coursekit.compression.prefix import HuffmanCoding, coded_bytes, decode_symbols
from coursekit.compression.relative import from_relative_positions, relative_positions
from coursekit.compression.tensor import cp_conv, evbmf_rank, tucker2_conv, tucker_ranks

__all__ = [
    "ArtifactError",
    "Clusters",
    "Encoded",
    "HuffmanCoding",
    "HuffmanStats",
    "Part",
    "SvdFactors",
    "assign",
    "break_even_rank",
    "canonical_codes",
    "code_lengths",
    "coded_bytes",
    "contents",
    "conv_like",
    "cp_conv",
    "decode_gaps",
    "decode_symbols",
    "decode_tensor",
    "encode_gaps",
    "encode_tensor",
    "entropy",
    "evbmf_rank",
    "expected_bits",
    "factorize_",
    "factorize_conv",
    "factorize_conv_spatial",
    "factorize_linear",
    "factorize_network",
    "from_relative_positions",
    "huffman_decode",
    "huffman_encode",
    "huffman_stats",
    "initial_centroids",
    "kmeans",
    "kmeans_exact",
    "limited_lengths",
    "lloyd",
    "load",
    "rank_for_energy",
    "relative_positions",
    "replace_module_",
    "save",
    "truncated_svd",
    "tucker2_conv",
    "tucker_ranks",
    "weight_matrix",
]
