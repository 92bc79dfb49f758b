# %% [markdown]
# # 12 · Huffman coding: short words for what is said often
#
# After quantization, sharing and pruning a network is a stream of small integers, and some of them are far more frequent than others. This
# lesson stores them without loss in fewer bits still. By the end you will have
#
# - **written** a Huffman coder from the counts of its symbols to the decoder, and the relative positions of Deep Compression,
# - **measured** what it gains on real networks, in bytes of a file with the table counted, and where it gains nothing,
# - **compared** it with zlib and zstd, in size and in speed.
#
# **Before:** lessons 01, 05 and 11. **You need** about two hours; there are 19 points to check yourself and 3 that a person
# grades. **The machine needs** about 15 s for all cells, under 1 GB of memory, and no download.

# %% [markdown]
# <details><summary><b>How these notebooks work</b> (open once)</summary>
#
# Run the cells in order with Shift+Enter. An exercise has a statement, a cell where you write, a cell to look at your
# result, and a check. Replace the line `raise NotImplementedError()`, run the cell, run the check: it says which
# properties hold, what it got and what it expected. Run it as often as you like. `hint("name")` opens three hints, each
# stronger than the last; `solution("name")` shows ours where the solutions are installed. If an exercise will not give
# in, go on: everything after it uses our function in place of yours.
#
# The numbers in the text are our run's. A training rounds differently on another processor: your last digits may differ.
#
# </details>

# %%
import heapq
import json
import math
import zlib

import torch
from torch import Tensor

from coursekit import compression as cc
from coursekit import data, measure, plot, zoo
from coursekit import quantization as cq
from coursekit.ledger import Ledger
from coursekit.notebook import check, hint, solution, use
from coursekit.train import evaluate

torch.set_num_threads(1)  # small layers gain little from more, and times stay steady

# %% [markdown]
# ## 1 · Not all numbers are equally likely
#
# Our companion in int8, a scale for each channel, as lesson 01 left it: every weight is one of 255 codes, and each code takes a byte. But
# trained weights are a bell around zero, so the codes are too.

# %% tags=["demo"]
network = zoo.load("resnet20")
names = cq.weight_names(network)


def int8_codes(weight):
    """The int8 codes of a weight, a scale a channel, moved to 0..255 as symbols are."""
    return cq.quantize(weight, cq.symmetric_scale_per_channel(weight)).flatten().long() + 128


layers = {name: int8_codes(network.get_parameter(name).detach()) for name in names}
codes = torch.cat(list(layers.values()))
counts = torch.bincount(codes, minlength=256)
print(f"{len(codes):,} weights in {len(layers)} layers, {(counts > 0).sum()} different codes")
middle = counts[128 - 32 : 128 + 33].sum() / len(codes)
print(f"within 32 of zero: {middle:.0%} of the weights, in {65 / 255:.0%} of the codes")

# %% tags=["demo", "nbval-ignore-output"]
plot.histograms({"ResNet-20": (codes - 128).float()}, bins=255, log=False, xlabel="int8 code", ylabel="weights",
                title="Codes near zero occur far more often than those at the ends");

# %% [markdown]
# (The small spikes at the ends are each channel's largest weight, whose code is 127 or −127.)
#
# A byte for each is a waste: give frequent codes short words and rare codes long ones. Morse did so by hand. How short can the average word
# get? Shannon's answer (1948): a symbol that makes up a share $p$ of the text deserves $-\log_2 p$ bits, because $2^b$ equally likely symbols
# take $b$ bits. The average over all symbols is the **entropy**,
#
# $$H = -\sum_i p_i \log_2 p_i .$$
#
# No code that takes symbols one by one does with less.

# %% [markdown]
# ### Exercise 1 · `entropy` (2 points, about 4 lines)
#
# **Given** `counts`, how often each symbol occurs (a list of `int`, at least one of them above 0), **return** the entropy in bits per symbol, a Python
# `float`.
#
# A symbol with count 0 adds nothing. `[8, 4, 2, 2]` has shares ½, ¼, ⅛, ⅛ and deserves 1, 2, 3, 3 bits: 1.75 on average.


# %% nbgrader={"solution": true, "grade_id": "entropy"}
def entropy(counts: list[int]) -> float:
    """Bits per symbol that no code which takes symbols one by one can beat."""
    ### BEGIN SOLUTION
    total = sum(counts)
    return sum(-n / total * math.log2(n / total) for n in counts if n)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: 1.75 for unequal symbols, 2 for four equal ones.
print(entropy([8, 4, 2, 2]), entropy([4, 4, 4, 4]))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-entropy", "points": 2}
check("entropy")

# %% tags=["demo", "nbval-ignore-output"]
hint("entropy")

# %% [markdown]
# What is there to gain? Ours is one stream of symbols; here are three more from the networks of this course. LeNet-300-100 shares 32 values
# chosen by k-means (lesson 11), or 32 chosen so that each is used equally often. And of a ResNet-20 that is 90 % zeros we take the int8 codes as
# they are.

# %% tags=["demo"]
lenet = zoo.load("lenet300")
lenet_weights = torch.cat([lenet.get_parameter(name).detach().flatten() for name in cq.weight_names(lenet)])
sparse = zoo.load("resnet20-sparse90")
pruned = torch.cat([sparse.get_parameter(name).detach().flatten() for name in names])
streams = {
    "ResNet-20, int8": (codes, 8),
    "LeNet, 32 by k-means": (cc.kmeans(lenet_weights, 32).indices, 5),
    "LeNet, 32 equally often": (cc.assign(lenet_weights, cc.initial_centroids(lenet_weights, 32, "density")), 5),
    "ResNet-20, 90 % zeros, int8": (torch.cat([int8_codes(sparse.get_parameter(n).detach()) for n in names]), 8),
}
for name, (symbols, n_bits) in streams.items():
    bound = cc.entropy(torch.bincount(symbols))
    print(f"{name:>28}: {n_bits} bits each, entropy {bound:.3f}, at best {n_bits / bound:.2f} times smaller")

# %% [markdown]
# The gain depends on the data alone. Values used equally often leave nothing to gain: their entropy is the 5 bits they take already. Keep
# that in mind when you choose a codebook.

# %% [markdown]
# ## 2 · Which lengths?
#
# Whole bits only, and no word may be the **beginning of another**, or nobody could tell where a word ends. Huffman (1952) found the best such
# words, as a student, in place of an exam:
#
# 1. every symbol that occurs is a node, with its count;
# 2. join the two **rarest** nodes into one, which occurs as often as both together;
# 3. repeat until one node is left.

# %% [markdown]
# Each join puts one more bit in front of all words below it. So the rarest symbols, joined first, end up with the longest words.

# %% tags=["demo"]
nodes = [(8, "a"), (4, "b"), (2, "c"), (2, "d")]
while len(nodes) > 1:
    nodes.sort(reverse=True)
    (n, left), (m, right) = nodes.pop(), nodes.pop()
    print(f"join {left} ({n}) and {right} ({m}): all of {left + right} get one bit more")
    nodes.append((n + m, left + right))

# %% [markdown]
# ### Exercise 2 · `code_lengths` (4 points, about 10 lines)
#
# **Given** `counts` (a list of `int`, 0 or more), **return** the length of each symbol's word in bits: a list of `int`, in the order of the symbols.
#
# - A symbol that does not occur has length 0 and takes no part.
# - If one symbol alone occurs, there is nothing to tell apart: 0 as well. No symbols at all: an empty list.
# - Ties may be settled as you like: the lengths may then differ, the bits in all do not.
#
# You need no tree: only, for each node, its count and the symbols below. `heapq.heappush` and `heapq.heappop` keep a list's smallest entry at
# hand.


# %% nbgrader={"solution": true, "grade_id": "code_lengths"}
def code_lengths(counts: list[int]) -> list[int]:
    """The lengths of the best prefix code's words; 0 for a symbol that does not occur, or is alone."""
    ### BEGIN SOLUTION
    lengths = [0] * len(counts)
    heap = [(n, symbol, [symbol]) for symbol, n in enumerate(counts) if n]
    heapq.heapify(heap)
    while len(heap) > 1:
        (n, tie, left), (m, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        for symbol in left + right:
            lengths[symbol] += 1
        heapq.heappush(heap, (n + m, tie, left + right))
    return lengths
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: 1, 2, 3, 3; two symbols get a bit each, however unequal; and one alone gets none.
print(code_lengths([8, 4, 2, 2]), code_lengths([1000, 1]), code_lengths([0, 9]))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-code_lengths", "points": 4}
check("code_lengths")

# %% tags=["demo", "nbval-ignore-output"]
hint("code_lengths")

# %% [markdown]
# On the shared LeNet every value's word is near the $-\log_2 p$ it deserves. The average is above the entropy only by what rounding to whole
# bits costs; Shannon's theorem says less than one bit, and mostly it is far less.

# %% tags=["demo"]
shared = streams["LeNet, 32 by k-means"][0]
shared_counts = torch.bincount(shared)
lengths = cc.code_lengths(shared_counts)
deserved = -torch.log2(shared_counts / shared_counts.sum())
print("lengths:", lengths)
print(f"entropy {cc.entropy(shared_counts):.3f}, words {cc.expected_bits(shared_counts, lengths):.3f} bits a weight")
print("2, 2, 1, 1 as", [[1, 2, 3, 3], [2, 2, 2, 2]], "takes",
      [sum(n * size for n, size in zip([2, 2, 1, 1], lens, strict=True)) for lens in ([1, 2, 3, 3], [2, 2, 2, 2])], "bits")

# %% tags=["demo", "nbval-ignore-output"]
plot.lines(range(32), {"deserved, −log2 p": deserved, "Huffman's word": lengths}, xlabel="shared value, from the lowest to the highest",
           ylabel="bits", markers=True, title="The words follow what each value deserves, in whole bits");

# %% [markdown]
# ## 3 · Words that need not be stored
#
# A decoder must know the words. Storing the tree, or a table of words, costs more than one thinks: for a small layer more than the weights. But
# which of two joined sides gets the 0 does not matter, only the *lengths* do. So agree on one set of words for given lengths. The
# **canonical code** counts upwards, short words first:
#
# | symbol | length | word |
# | --- | --- | --- |
# | 1 | 1 | 0 |
# | 0 | 2 | 10 |
# | 2 | 3 | 110 |
# | 3 | 3 | 111 |

# %% [markdown]
# Each word is the one before plus 1; where words grow longer, zeros are added on the right.

# %% [markdown]
# ### Exercise 3 · `canonical_codes` (3 points, about 8 lines)
#
# **Given** `lengths` (a list of `int` that some prefix code has), **return** each symbol's word as an integer whose highest bit is the word's first: a list
# of `int`, in the order of the symbols, 0 where the length is 0.
#
# - Order: by length, then by symbol. The first word is all zeros.
# - From one word to the next: add 1, then shift left by as many bits as the length grows.


# %% nbgrader={"solution": true, "grade_id": "canonical_codes"}
def canonical_codes(lengths: list[int]) -> list[int]:
    """The words of these lengths, counted up by length and symbol."""
    ### BEGIN SOLUTION
    codes, code, previous = [0] * len(lengths), 0, 0
    for size, symbol in sorted((size, symbol) for symbol, size in enumerate(lengths) if size):
        code <<= size - previous
        codes[symbol], previous = code, size
        code += 1
    return codes
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: the table above, symbols 0 to 3.
print([f"{code:0{size}b}" for code, size in zip(canonical_codes([2, 1, 3, 3]), [2, 1, 3, 3], strict=True)])

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-canonical_codes", "points": 3}
check("canonical_codes")

# %% tags=["demo", "nbval-ignore-output"]
hint("canonical_codes")

# %% [markdown]
# What is saved? Our int8 network's table, written as words in JSON, and as lengths of 5 bits each, which allow for words of up to 31 bits:

# %% tags=["demo"]
coding = cc.HuffmanCoding.of(codes)
print("some words:", {k - 128: coding.words[k] for k in (126, 127, 128, 129, 160)})
print(f"as words in JSON: {len(json.dumps(coding.words)):,} bytes")
print(f"as lengths:       {math.ceil(5 * len(coding.lengths) / 8):,} bytes")

# %% [markdown]
# ## 4 · Bits in, bits out
#
# Encoding is looking words up and writing them one behind the other, **eight bits a byte**. (As a text of the characters 0 and 1, as one also sees it, every
# bit costs a byte, and the "compressed" network is larger than the original.)

# %% tags=["demo"]
first = layers["conv1.weight"]
packed = coding.encode(first)
text = "".join(coding.words[k] for k in first.tolist())
print(f"{len(first)} weights of the first layer: {len(packed)} bytes; as text {len(text)}")
print("comes back:", torch.equal(coding.decode(packed, len(first)), first))

# %% [markdown]
# (That is more than 144 bytes: this layer's weights are not the network's average. Section 5 returns to it.)

# %% [markdown]
# ### Exercise 4 · `decode_symbols` (3 points, about 12 lines)
#
# **Given** `bits` (a `uint8` tensor of 0s and 1s), the `codes` and `lengths` of all symbols (lists of `int`, as above) and `n`, **return** the first `n`
# symbols: a list of `int`.
#
# - Read bit by bit, `code = 2 * code + bit`, until what was read is a word. No word begins another, so the first hit is right.
# - 0, 00 and 000 have one value: the number of bits must fit too. Length 0 is no word.
# - What follows the last symbol fills the byte: ignore it.
# - If the bits end before the `n`-th symbol does, raise `ValueError`.


# %% nbgrader={"solution": true, "grade_id": "decode_symbols"}
def decode_symbols(bits: Tensor, codes: list[int], lengths: list[int], n: int) -> list[int]:
    """The first n symbols of these bits."""
    ### BEGIN SOLUTION
    symbol_of = {(size, code): symbol for symbol, (code, size) in enumerate(zip(codes, lengths, strict=True)) if size}
    symbols, code, size = [], 0, 0
    stream = iter(bits.tolist())
    while len(symbols) < n:
        bit = next(stream, None)
        if bit is None:
            raise ValueError(f"the bits end after {len(symbols)} of {n} symbols")
        code, size = 2 * code + bit, size + 1
        if (size, code) in symbol_of:
            symbols.append(symbol_of[size, code])
            code = size = 0
    return symbols
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: 0 10 110 0 111 are the symbols 1, 0, 2, 1, 3.
print(decode_symbols(torch.tensor([0, 1, 0, 1, 1, 0, 0, 1, 1, 1]), [0b10, 0b0, 0b110, 0b111], [2, 1, 3, 3], 5))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-decode_symbols", "points": 3}
check("decode_symbols")

# %% tags=["demo", "nbval-ignore-output"]
hint("decode_symbols")

# %% [markdown]
# ### Damage
#
# What if a bit is wrong? The decoder loses its place, reads words that were never written, and after a while, by luck, falls into step again. Nothing
# raises, and the network is quietly another. Flip each bit of the first layer once:

# %% tags=["demo"]
wrong, noticed = [], 0
for place in range(len(text)):
    damaged = packed.clone()
    damaged[place // 8] ^= 128 >> place % 8
    try:
        wrong.append(int((coding.decode(damaged, len(first)) != first).sum()))
    except ValueError:
        noticed += 1
print(f"each of {len(text):,} bits flipped in turn: {noticed} times the number of bytes did not fit, {len(wrong):,} times nothing was noticed")
print(f"weights that were wrong then: {sum(wrong) / len(wrong):.1f} of {len(first)} on average, at most {max(wrong)}")

# %% tags=["demo"]
stored = bytearray(cc.huffman_encode(first))
stored[len(stored) // 2] ^= 16
for what, broken in (("a bit flipped", bytes(stored)), ("cut off", cc.huffman_encode(first)[:-1])):
    try:
        cc.huffman_decode(broken)
    except ValueError as error:
        print(f"{what}: {error}")
try:
    coding.encode(torch.tensor([0]))
except ValueError as error:
    print(f"a code of another network: {error}")

# %% [markdown]
# So the library's form, `huffman_encode`, begins with a checksum over everything, and refuses what does not fit it. A symbol without a word is refused as
# well, instead of being written as some other one.

# %% [markdown]
# ## 5 · What is really in the file
#
# A claim of "4.1 bits a weight" leaves out the table. Count it.
#
# ### Exercise 5 · `coded_bytes` (2 points, about 3 lines)
#
# **Given** `counts` and `lengths` (lists of `int`, one entry for each symbol of the alphabet), **return** the bytes of the coded symbols: an `int`, the sum of
#
# - the words, each as often as its symbol occurs, filled up to whole bytes,
# - the table: 5 bits for each symbol of the alphabet, whether it occurs or not, filled up to whole bytes.


# %% nbgrader={"solution": true, "grade_id": "coded_bytes"}
def coded_bytes(counts: list[int], lengths: list[int]) -> int:
    """Bytes of the words, and of the table without which nobody can read them."""
    ### BEGIN SOLUTION
    payload = sum(n * size for n, size in zip(counts, lengths, strict=True))
    table = 5 * len(lengths)
    return math.ceil(payload / 8) + math.ceil(table / 8)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: 28 bits of words are 4 bytes, 20 bits of table are 3.
coded_bytes([8, 4, 2, 2], [1, 2, 3, 3])

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-coded_bytes", "points": 2}
check("coded_bytes")

# %% tags=["demo", "nbval-ignore-output"]
hint("coded_bytes")


# %% tags=["demo"]
def coded(symbols, alphabet=256):
    """Bytes of these symbols with a code of their own, its table counted."""
    counts = torch.bincount(symbols, minlength=alphabet).tolist()
    return cc.coded_bytes(counts, cc.code_lengths(counts))


rows = {name: (len(layer), coded(layer)) for name, layer in layers.items()}
for name in ("conv1.weight", "stage1.0.conv1.weight", "stage2.0.conv1.weight", "stage3.2.conv2.weight", "fc.weight"):
    plain, small = rows[name]
    print(f"{name:>22}: {plain:6,} bytes as int8, {small:6,} with a code of its own, {small / plain:.2f} of it")
print(f"{'all, a code a layer':>22}: {sum(small for _, small in rows.values()):,}")
print(f"{'all, one code':>22}: {coded(codes):,} of {len(codes):,}")

# %% [markdown]
# The first layer *grows*: a table of 160 bytes for 144 weights. So does the last. A code of its own fits each layer better, but 22 tables take 3,520
# bytes, and in the end one code for all comes out a little smaller here. A table of 32 shared values would
# take only 20. There is no rule but to count: our file format tries several forms for every tensor and keeps the smallest.

# %% [markdown]
# ## 6 · Decoding fast
#
# Bit by bit, Python decodes about a million symbols a second: a minute for a network of 60 million weights. Two ideas make it fast.
#
# **A table.** Look at the next 3 bits at once, if 3 is the longest word: every value begins with exactly one word. One look-up gives the symbol and how far to
# move on.
#
# **Many streams.** Each symbol's place depends on the one before, so a single stream cannot be decoded in parallel. But deal the symbols out
# into, say, 256 streams, and one look-up *of a whole vector* decodes 256 symbols. The ends of the streams cost about a byte each.

# %% tags=["demo"]
small = cc.HuffmanCoding((2, 1, 3, 3))
for value in range(8):
    bits = f"{value:03b}"
    symbol, word = next((k, w) for k, w in small.words.items() if bits.startswith(w))
    print(f"next bits {bits}: symbol {symbol}, move on by {len(word)}", end="\n" if value % 2 else "      ")

# %% tags=["demo"]
stream = cc.huffman_encode(shared, pairs=False)  # what pairs are: section 8
stats = cc.huffman_stats(shared, pairs=False)
print(f"{len(shared):,} shared weights: {len(stream):,} bytes")
print(f"bits a weight: entropy {stats.entropy:.3f}, words {stats.expected:.3f}, everything in the file {stats.real:.3f}")
print("comes back:", torch.equal(cc.huffman_decode(stream), shared))

# %% tags=["demo", "nbval-ignore-output"]
import time


def seconds(call):
    """Processor time of the fastest of five calls."""
    taken = []
    for _ in range(5):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return min(taken)


shared_code = cc.HuffmanCoding.of(shared[:20_000])
packed = shared_code.encode(shared[:20_000])
bitwise = seconds(lambda: shared_code.decode(packed, 20_000)) / 20_000
vectors = seconds(lambda: cc.huffman_decode(stream)) / len(shared)
print(f"bit by bit {1e-6 / bitwise:.2f}, in {len(shared) // 1024} streams {1e-6 / vectors:.0f} million symbols a second: {bitwise / vectors:.0f} times as fast")

# %% [markdown]
# ## 7 · Where the zeros are
#
# A pruned network stores its few values, and must say *where* they stand. Absolute positions take 32 bits each, four times as much as a value in int8. Deep
# Compression stores the **gap**: how many zeros precede each value. In 3 bits a gap can be 0 to 7. A longer one gets a **filler**: a stored 0.0 with the
# largest gap, which stands for seven zeros and itself.
#
# $$\underbrace{0\;0\;0\;0\;0\;0\;0\;[0]}_{\text{gap 7, filler}}\;\underbrace{0\;0\;[w]}_{\text{gap 2, }w}$$

# %% [markdown]
# ### Exercise 6 · `relative_positions` (3 points, about 12 lines)
#
# **Given** `x` (floating point, one dimension) and `n_bits`, **return** `(gaps, values)`: an `int64` tensor with entries 0 to
# $2^{n\_bits}-1$, and a tensor of `x`'s dtype, as many.
#
# - For each value that is not 0: the number of zeros before it, since the last stored entry.
# - Where these are more than $2^{n\_bits}-1$, first as many fillers as are needed: gap $2^{n\_bits}-1$, value 0.0, which account for $2^{n\_bits}$ places each.
# - Zeros after the last value are not stored.
#
# `[0, 0, 3, 0, 0, 0, 0, 0, 4]` with 2 bits: gaps `[2, 3, 1]`, values `[3, 0, 4]`.


# %% nbgrader={"solution": true, "grade_id": "relative_positions"}
def relative_positions(x: Tensor, n_bits: int) -> tuple[Tensor, Tensor]:
    """Gaps of n_bits and values, with filler zeros where a gap is too long."""
    ### BEGIN SOLUTION
    gaps, values, largest, last = [], [], 2**n_bits - 1, -1
    for place in x.nonzero().flatten().tolist():
        gap = place - last - 1
        while gap > largest:
            gaps.append(largest)
            values.append(0.0)
            gap -= largest + 1
        gaps.append(gap)
        values.append(x[place].item())
        last = place
    return torch.tensor(gaps, dtype=torch.int64), torch.tensor(values, dtype=x.dtype)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: a filler between the two values.
relative_positions(torch.tensor([0.0, 0, 3, 0, 0, 0, 0, 0, 4, 0, 0]), n_bits=2)

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-relative_positions", "points": 3}
check("relative_positions")

# %% tags=["demo", "nbval-ignore-output"]
hint("relative_positions")

# %% [markdown]
# ### Exercise 7 · `from_relative_positions` (2 points, about 4 lines)
#
# **Given** `gaps` (integers, perhaps `uint8`), `values` (as many) and `n`, **return** the tensor of `n` numbers, of the dtype of `values`.
#
# Fillers need no special treatment: a filler is a 0.0 in its place.


# %% nbgrader={"solution": true, "grade_id": "from_relative_positions"}
def from_relative_positions(gaps: Tensor, values: Tensor, n: int) -> Tensor:
    """The n numbers that these gaps and values stand for."""
    ### BEGIN SOLUTION
    places = (gaps.to(torch.int64) + 1).cumsum(0) - 1
    x = torch.zeros(n, dtype=values.dtype)
    x[places] = values
    return x
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: 3 in place 2, 4 in place 8, of 11.
from_relative_positions(torch.tensor([2, 3, 1]), torch.tensor([3.0, 0.0, 4.0]), 11)

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-from_relative_positions", "points": 2}
check("from_relative_positions")

# %% tags=["demo", "nbval-ignore-output"]
hint("from_relative_positions")

# %% [markdown]
# How many bits should a gap have? Few bits make many fillers, each of which costs a gap *and* a value; many bits waste them on gaps that are mostly
# short. Our 90 % sparse ResNet-20, its values in 8 bits:

# %% tags=["demo"]
n_kept = int((pruned != 0).sum())
print(f"{n_kept:,} of {len(pruned):,} weights are not zero")
widths = list(range(2, 9))
sizes, shares = [], []
for n_bits in widths:
    gaps, values = cc.relative_positions(pruned, n_bits)
    sizes.append(math.ceil(len(gaps) * (n_bits + 8) / 8))
    shares.append((len(gaps) - n_kept) / len(gaps))
    print(f"{n_bits} bits: {len(gaps):6,} entries, {shares[-1]:4.0%} of them fillers, {sizes[-1]:,} bytes with the values")

# %% tags=["demo", "nbval-ignore-output"]
plot.lines(widths, {"fixed width": [size / 1000 for size in sizes]}, xticks=widths, xlabel="bits of a gap",
           ylabel="gaps and values (KB)", title="Few bits drown in fillers, many are wasted on short gaps");

# %% [markdown]
# Gaps are not equally likely either: short ones are far more frequent. Huffman takes care of that, and of the width as well: with 8 bits there
# are hardly any fillers, and rare long gaps simply get long words.

# %% tags=["demo"]
best = min(range(len(widths)), key=lambda i: sizes[i])
gaps, values = cc.relative_positions(pruned, 8)
gap_stats = cc.huffman_stats(gaps)
positions = len(cc.huffman_encode(gaps))
print(f"a bit for every weight:        {math.ceil(len(pruned) / 8):7,} bytes")
print(f"absolute, 32 bits:             {4 * n_kept:7,}")
print(f"gaps of {widths[best]} bits, with fillers:  {sizes[best] - n_kept:7,}")
print(f"gaps of 8 bits, Huffman-coded: {positions:7,}, {gap_stats.real:.2f} bits a gap; entropy {gap_stats.entropy:.2f}")

with_zeros = streams["ResNet-20, 90 % zeros, int8"][0]
value_bytes = len(cc.huffman_encode(with_zeros[pruned != 0]))
whole = len(cc.huffman_encode(with_zeros))
print(f"gaps and int8 values, both Huffman-coded: {positions + value_bytes:,} bytes; the whole stream, zeros in it: {whole:,}")

# %% [markdown]
# ## 8 · When Huffman does not help
#
# Back to the four streams of section 1: what comes of the bound?

# %% tags=["demo"]
for name, (symbols, n_bits) in {**streams, "its gaps": (gaps, 8)}.items():
    each = cc.huffman_stats(symbols, pairs=False)
    print(f"{name:>28}: fixed {n_bits}, entropy {each.entropy:.3f}, words {each.expected:.3f}, in the file {each.real:.3f}")

# %% [markdown]
# Three things to learn.
#
# - **Equal shares:** 5 bits remain 5 bits, and a little more for the table.
# - **One symbol above one half:** a zero that makes up 90 % deserves 0.15 bits and gets a whole one. No word is shorter than a bit. Coding the *gaps*
#   instead puts many zeros into one symbol. (Arithmetic coding and ANS, which zstd has, spend fractions of a bit.)
# - **Everything else:** the words take within 0.03 bits of the entropy, as a rule.
#
# ### Two symbols a word
#
# A word has a whole number of bits, a symbol's information has not. What that wastes, a few hundredths of a bit, is paid once a *word*. So give a
# word to each **pair** of symbols, and each symbol pays half: Shannon's way to come as near to the entropy as you like.

# %% tags=["demo"]
pairs = shared[0::2] * 32 + shared[1::2]
for per_word, symbols in ((1, shared), (2, pairs)):
    counts = torch.bincount(symbols, minlength=32**per_word)
    lengths = cc.code_lengths(counts)
    bits, least = cc.expected_bits(counts, lengths) / per_word, cc.entropy(counts) / per_word
    table = len(zlib.compress(bytes(lengths), 9))
    print(f"{per_word} a word: {bits:.3f} bits a symbol, {bits - least:.3f} over the entropy of {least:.3f}; {len(lengths):,} lengths, deflated {table} bytes")

# %% [markdown]
# The waste shrinks. But look at the entropy itself: that of pairs is *less* than twice that of symbols, since neighbouring weights are not independent.
# `cc.huffman_encode` uses pairs where the whole comes out smaller, their table deflated.
#
# So the bound of section 2 holds for symbols taken one by one only. Text has patterns, and zlib finds them; have weights?

# %% tags=["demo", "nbval-ignore-output"]
measured = {name: cc.huffman_stats(symbols, pairs=False) for name, (symbols, _) in streams.items()}
short = ["ResNet-20", "LeNet, k-means", "LeNet, equal", "90 % zeros"]
plot.bars({"fixed": dict(zip(short, [float(n) for _, n in streams.values()], strict=True)),
           "Huffman, in the file": dict(zip(short, [s.real for s in measured.values()], strict=True)),
           "entropy": dict(zip(short, [s.entropy for s in measured.values()], strict=True))},
          fmt="{:.2f}", ylabel="bits a weight", title="Unequal shares are what Huffman lives on");

# %% [markdown]
# ### Use it: the network in a file
#
# `cc.save` tries every form for every tensor and keeps the smallest: for an int8 network these are scales and Huffman-coded integers. The file is
# loaded again before anything is measured. Are your lengths as good as those in it?

# %% tags=["demo"]
mine = {name: use(name) for name in ("code_lengths", "coded_bytes")}
test = data.fashion_mnist("test", subset=True)
int8 = cq.quantize_weights(network, 8, scale_of=cq.symmetric_scale_per_channel)
cq.save_quantized(network, "resnet20-int8.safetensors", scale_of=cq.symmetric_scale_per_channel)
size_float, size_int8 = measure.saved_size(network), measure.file_size("resnet20-int8.safetensors")
size_huffman = cc.save(int8, "resnet20-int8.ckn")
loaded = cc.load("resnet20-int8.ckn")
accuracy = evaluate(loaded, test)
print(f"float32 {size_float:,} bytes, int8 {size_int8:,}, int8 Huffman-coded {size_huffman:,}: {size_float / size_huffman:.2f} times smaller")
print(f"accuracy on 2,000 images: {evaluate(int8, test):.2%} before, {accuracy:.2%} from the file")

yours = 0
for layer in layers.values():
    layer_counts = torch.bincount(layer, minlength=256).tolist()
    yours += mine["coded_bytes"](layer_counts, mine["code_lengths"](layer_counts))
in_file = sum(part.size_bytes for part in cc.contents("resnet20-int8.ckn") if part.part == "codes")
print(f"codes of all layers: {yours:,} bytes by your functions, {in_file:,} in the file, where pairs and deflated tables spare some")

# %% tags=["demo", "nbval-ignore-output"]
ledger = Ledger.open()
by = "yours" if all(function.by == "yours" for function in mine.values()) else "reference"
ledger.add(lesson="12-huffman-coding", step="int8 weights, Huffman-coded", accuracy=accuracy, size_bytes=size_huffman,
           macs=measure.macs(network, (1, 28, 28)), nonzero=measure.nonzero(loaded), by=by)
ledger

# %% [markdown]
# Not a digit of any weight has changed: unlike everything before it, this step is **lossless**. It comes last in Deep Compression for this
# reason, and gains most where the steps before made the shares unequal.

# %% [markdown]
# ## 9 · From scratch to the tools people use
#
# zlib can be told to use Huffman codes only. Its usual mode also looks for repetitions, and so does zstd, Facebook's compressor of 2016, with better
# ways to code what is left. Given one byte a symbol:

# %% tags=["demo", "nbval-ignore-output"]
import zstandard


def huffman_only(raw):
    """Deflated by zlib with Huffman codes alone."""
    coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    return coder.compress(raw) + coder.flush()


tools = {
    "ours": lambda symbols, raw: cc.huffman_encode(symbols),
    "zlib, Huffman only": lambda symbols, raw: huffman_only(raw),
    "zlib": lambda symbols, raw: zlib.compress(raw, 9),
    "zstd, level 19": lambda symbols, raw: zstandard.ZstdCompressor(level=19).compress(raw),
}
sources = {**{name: symbols for name, (symbols, _) in streams.items()}, "its gaps": gaps}
print(f"{'bytes':>28}" + "".join(f"{name:>20}" for name in tools))
for name, symbols in sources.items():
    raw = symbols.to(torch.uint8).numpy().tobytes()
    print(f"{name:>28}" + "".join(f"{len(encode(symbols, raw)):20,}" for encode in tools.values()))

# %% [markdown]
# In dense weights there is little repetition to find: all four stay within a few per cent of each other. zlib makes a new code for every block of its input; ours, with
# pairs, takes least. Where most weights are zero, runs of zeros *are* patterns, and both tools find them. But gaps and values, coded apart (section 7), take less still:
# knowing what the bytes *are* beats a general tool.

# %% tags=["demo", "nbval-ignore-output"]
raw = shared.to(torch.uint8).numpy().tobytes()
deflated, frame = huffman_only(raw), zstandard.ZstdCompressor(level=3).compress(raw)
decoders = {
    "ours, bit by bit": bitwise,
    "ours, many streams": vectors,
    "zlib, Huffman only": seconds(lambda: [zlib.decompress(deflated, -15) for _ in range(20)]) / 20 / len(shared),
    "zstd": seconds(lambda: [zstandard.ZstdDecompressor().decompress(frame) for _ in range(50)]) / 50 / len(shared),
}
for name, each in decoders.items():
    print(f"{name:>20}: {1e-6 / each:8.2f} million symbols a second, {decoders['zlib, Huffman only'] / each:6.3f} times zlib")

# %% [markdown]
# Many streams in NumPy reach between a fifth and a half of the speed of zlib's compiled C; bit by bit, Python is hundreds of times slower than zlib. `python benchmarks/codecs.py` measures
# this over all networks, beside the Python package `dahuffman`.

# %% [markdown]
# ## 10 · In your own words
#
# ### Question 1 (3 points, graded by a person)
#
# A colleague wants to Huffman-code (a) 5-bit indices from a codebook in which every value is used equally often, (b) the int8 codes of a network that
# is 90 % zeros, as one stream with the zeros in it, (c) the 144 weights of the first layer, with a table of its own. What would each gain, in bits or bytes, and why? What
# would you do instead? Use numbers measured in this notebook. (8 sentences at most.)

# %% [markdown] nbgrader={"grade": true, "solution": true, "grade_id": "question-when-huffman-helps", "points": 3}
# **A model answer.** (a) Nothing: the entropy of equally frequent values is 4.999 of 5 bits, and with the table the file has 5.002 a weight (section 8). Pack the
# indices into 5 bits, or choose the values by k-means, whose unequal shares take 4.109 bits and err less. (b) Much in comparison with 8 bits, but far from the
# bound: the entropy is 1.240 bits, the words take 1.774, because a zero with a share of 90 % deserves 0.15 bits and no word is shorter than one. Code the gaps between
# the values, and the values apart: both together take 40,830 bytes instead of 60,453 (section 7). (c) It grows, from 144 bytes to 273: the table alone takes 160. Leave it in
# int8, or use one code for several layers, whose table is paid for once.
#
# *Rubric:* one point each for (a), (b), (c): half for the right number with its reason, half for the remedy.

# %% [markdown]
# ## What we measured
#
# | question | answer, from the cells above |
# | --- | --- |
# | What does Huffman gain on int8 weights? | 7.115 of 8 bits on ResNet-20: the file is 253,933 bytes instead of 299,272, and not a digit changes |
# | And on 32 shared values? | 4.109 of 5 bits, table and all; the entropy is 4.070 |
# | What if all values are equally frequent? | nothing: 5.002 bits |
# | What does the table cost? | 160 bytes for 256 symbols; as words in JSON 5,102 |
# | What do 27,061 positions cost? | 22,021 bytes as gaps of 5 bits with fillers, 14,506 as Huffman-coded gaps, 108,244 as 32-bit numbers |
# | One bit flipped? | nobody notices without a checksum; ours refuses the file |
#
# **References.** C. Shannon 1948, *A Mathematical Theory of Communication* · D. Huffman 1952, *A Method for the Construction of Minimum-Redundancy
# Codes* · E. Schwartz, B. Kallick 1964, *Generating a Canonical Prefix Encoding* · S. Han et al. 2016, *Deep Compression*, arXiv:1510.00149 · J. Duda 2013, *Asymmetric Numeral
# Systems*, arXiv:1311.2540.
#
# **Next:** 13, low-rank factorization: fewer weights, instead of fewer bits for each.
