"""The exercises of lesson 12: their points, tests, hints and forbidden names."""

from __future__ import annotations

from coursekit import compression as reference
from coursekit.exercises.huffman_coding import mistakes_codes as codes
from coursekit.exercises.huffman_coding import mistakes_counts as counts
from coursekit.exercises.huffman_coding import mistakes_positions as positions
from coursekit.exercises.huffman_coding.properties import PUBLIC
from coursekit.exercises.spec import Exercise

__all__ = ["EXERCISES"]

FORBIDDEN = {
    "coursekit": "the reference is what you are writing",
    "dahuffman": "build the code yourself",
    "Categorical": "write the formula yourself",
}

EXERCISES = (
    Exercise(
        "entropy", "12", 2, reference.entropy,
        PUBLIC["entropy"],
        (
            "First turn the counts into shares that add up to 1. What does a symbol of share 1/8 deserve, in bits?",
            "A symbol of share p deserves -log2 p bits, and you meet it in a share p of all cases.",
            "Sum -p * log2(p) over the counts that are not 0; math.log2 of 0 raises.",
        ),
        counts.ENTROPY, counts.counts_probes, FORBIDDEN,
    ),
    Exercise(
        "code_lengths", "12", 4, reference.code_lengths,
        PUBLIC["code_lengths"],
        (
            "You need no tree, only this: whenever two nodes are joined, the codes of all symbols below get a "
            "bit longer.",
            "Keep a heap of (count, symbols below). Take out the two rarest, lengthen all their symbols, put back "
            "their union with the sum of the counts, until one node is left.",
            "heapq compares tuples from left to right: a number between count and list settles ties. Put only "
            "symbols "
            "that occur on the heap; with one or none the loop never runs, and that is right.",
        ),
        counts.CODE_LENGTHS, counts.lengths_probes, FORBIDDEN, (reference.limited_lengths,),
    ),
    Exercise(
        "canonical_codes", "12", 3, reference.canonical_codes,
        PUBLIC["canonical_codes"],
        (
            "Think of counting with a growing number of digits: 0, then 10, then 110, 111.",
            "Sort the symbols by length, then number. The next code is the last plus one, with a 0 added on the "
            "right "
            "for each bit that it is longer.",
            "sorted() on pairs (length, symbol) gives the order. Shift left by the difference of the lengths "
            "before you store a "
            "code, add 1 after. Leave out lengths of 0.",
        ),
        codes.CANONICAL_CODES, codes.codes_probes, FORBIDDEN,
    ),
    Exercise(
        "decode_symbols", "12", 3, reference.decode_symbols,
        PUBLIC["decode_symbols"],
        (
            "Read bits until what you have read is a code. No code begins another, so the first hit is right.",
            "A dictionary from (length, code) to the symbol finds a hit at once. Why must the length be in it?",
            "code = 2 * code + bit, and one more to the length; at a hit note the symbol and begin again from 0 "
            "and 0. Stop at n. "
            "Bits used up before that: ValueError.",
        ),
        codes.DECODE_SYMBOLS, codes.decode_probes, FORBIDDEN,
    ),
    Exercise(
        "coded_bytes", "12", 2, reference.coded_bytes,
        PUBLIC["coded_bytes"],
        (
            "Two things are in the file: the codes, and the table that says how long each symbol's code is.",
            "A symbol that occurs 30 times puts its code there 30 times. The table has an entry for every "
            "symbol, 5 bits each.",
            "Round each of the two up to whole bytes: -(-n // 8), or (n + 7) // 8.",
        ),
        counts.CODED_BYTES, counts.bytes_probes, FORBIDDEN, (reference.huffman_stats,),
    ),
    Exercise(
        "relative_positions", "12", 3, reference.relative_positions,
        PUBLIC["relative_positions"],
        (
            "Walk from left to right and count the zeros since the last value you stored.",
            "When a zero comes and the count is already as large as n_bits can tell, store a filler: that gap, "
            "and the value 0.0. Then the count "
            "starts anew.",
            "Fillers for zeros that no value follows are not wanted: note them only when a value does come. A "
            "gap holds "
            "gap // 2**n_bits fillers, and gap % 2**n_bits is left.",
        ),
        positions.RELATIVE_POSITIONS, positions.to_probes, FORBIDDEN, (reference.encode_gaps,),
    ),
    Exercise(
        "from_relative_positions", "12", 2, reference.from_relative_positions,
        PUBLIC["from_relative_positions"],
        (
            "Where does the second value stand? After the first gap, the first value, and the second gap.",
            "Each entry moves on by its gap and one place more. A sum that runs along does the rest.",
            "Tensor.cumsum(0) of gap + 1, less 1, are the places. Gaps may be uint8: what is 255 + 1 there?",
        ),
        positions.FROM_RELATIVE_POSITIONS, positions.from_probes, FORBIDDEN, (reference.decode_gaps,),
    ),
)  # fmt: skip
