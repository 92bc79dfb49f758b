"""coursekit.plot: what is drawn is what was given, told apart without colour, and said in the title."""

import io
import itertools
import math
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb

from coursekit import plot

WEIGHT = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
LEVELS = torch.linspace(-3, 3, 16)
BITS = list(range(2, 9))
ROWS = [
    {"name": "float32", "size_bytes": 1_000_000, "accuracy": 0.90, "by": "reference"},
    {"name": "int8", "size_bytes": 250_000, "accuracy": 0.89, "by": "yours"},
    {"name": "int4", "size_bytes": 125_000, "accuracy": 0.80, "by": "yours"},
    {"name": "worse", "size_bytes": 300_000, "accuracy": 0.85, "by": "yours"},
]


def on_grid(x):
    return torch.round(x.clamp(-1, 1) * 2) / 2


# Each helper with arguments that suffice, but for its title.
HALF_LIMITS: Any = {"smallest": 2.0**-24, "smallest_normal": 2.0**-14, "largest": 65504.0}
HELPERS = {
    "lines": lambda **kw: plot.lines(BITS, {"a": BITS}, xlabel="bits", ylabel="error", **kw),
    "bars": lambda **kw: plot.bars({"a": 0.1, "b": 0.2}, ylabel="accuracy", **kw),
    "images": lambda **kw: plot.images(WEIGHT[:5, :25].reshape(5, 1, 5, 5), list("abcde"), **kw),
    "pareto": lambda **kw: plot.pareto(ROWS, **kw),
    "histogram_with_levels": lambda **kw: plot.histogram_with_levels(WEIGHT, LEVELS, **kw),
    "staircase": lambda **kw: plot.staircase(on_grid, -2, 2, **kw),
    "error_by_bits": lambda **kw: plot.error_by_bits(BITS, {"a": [4.0**-b for b in BITS]}, **kw),
    "clip_curve": lambda **kw: plot.clip_curve([1, 2, 3], [3.0, 1.0, 0.0], [0.5, 1.0, 2.0], **kw),
    "channel_ranges": lambda **kw: plot.channel_ranges(WEIGHT, **kw),
    "magnitudes": lambda **kw: plot.magnitudes({"a": WEIGHT}, **HALF_LIMITS, **kw),
}
EVERY_HELPER = pytest.mark.parametrize("helper", HELPERS.values(), ids=HELPERS.keys())


@pytest.fixture(autouse=True)
def _clean_slate():
    plt.close("all")
    with plt.rc_context():
        yield
    plt.close("all")


def png(ax) -> bytes:
    file = io.BytesIO()
    ax.figure.savefig(file, format="png")
    return file.getvalue()


def labels(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


@EVERY_HELPER
def test_helper_draws_one_figure_titled_with_its_claim(helper):
    ax: Any = helper(title="a claim")
    assert ax.get_title(loc="left") == "a claim"
    assert plt.get_fignums() == [ax.figure.number]
    assert 1_000 < len(png(ax)) < 60_000  # notebooks stay small


@EVERY_HELPER
def test_claim_is_not_optional(helper):
    with pytest.raises(TypeError, match="title"):
        helper()


@EVERY_HELPER
def test_helper_draws_into_the_axes_it_is_given(helper):
    figure, (left, right) = plt.subplots(1, 2)
    assert helper(title="left", ax=left) is left
    assert plt.get_fignums() == [figure.number]
    assert not right.has_data()


@EVERY_HELPER
def test_figure_looks_the_same_whatever_the_readers_settings(helper):
    expected = png(helper(title="a claim"))
    with plt.style.context(["dark_background", {"font.size": 30, "figure.figsize": (1, 1)}]):
        ax = helper(title="a claim")
    assert png(ax) == expected


@EVERY_HELPER
def test_helper_leaves_the_readers_settings_alone(helper):
    before = dict(plt.rcParams)
    helper(title="a claim")
    assert dict(plt.rcParams) == before


@pytest.mark.parametrize("helper", [h for name, h in HELPERS.items() if name != "images"])
def test_both_axes_are_labelled(helper):
    ax: Any = helper(title="a claim")
    assert ax.get_ylabel()
    assert ax.get_xlabel() or [t.get_text() for t in ax.get_xticklabels()] == ["a", "b"]


def test_long_title_is_broken_into_lines_inside_the_figure():
    ax: Any = plot.bars({"a": 1}, ylabel="y", title="a claim of many words " * 8)
    ax.figure.draw_without_rendering()
    assert ax.get_title(loc="left").count("\n") >= 2
    box = ax._left_title.get_window_extent()
    assert box.x1 <= ax.figure.bbox.x1
    assert box.y1 <= ax.figure.bbox.y1


def test_style_sets_small_figures_and_cycles_through_the_palette():
    plot.style()
    assert plt.rcParams["figure.dpi"] == 80
    assert [each["color"] for each in plt.rcParams["axes.prop_cycle"]] == list(plot.PALETTE)
    assert len({str(each["linestyle"]) for each in plt.rcParams["axes.prop_cycle"]}) == len(plot.PALETTE)


def test_palette_is_okabe_and_itos_and_neighbours_differ_in_grey():
    okabe_ito = {"#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#000000"}
    assert set(plot.PALETTE) == okabe_ito
    # Rec. 709 luma; a tenth of the range between neighbours is the least one sees beside each other.
    grey = [float(np.dot(to_rgb(color), (0.2126, 0.7152, 0.0722))) for color in plot.PALETTE]
    assert min(abs(a - b) for a, b in itertools.pairwise(grey)) > 0.1


# lines and bars


def test_curves_hold_the_values_given_and_differ_without_colour():
    ys = {str(i): torch.arange(7.0) + i for i in range(7)}
    ax: Any = plot.lines(torch.arange(7), ys, title="t", xlabel="x", ylabel="y")
    assert labels(ax) == list(ys)
    for line, y in zip(ax.lines, ys.values(), strict=True):
        assert np.array_equal(line.get_ydata(), y.numpy())
    assert len({line.get_marker() for line in ax.lines}) == 7
    # get_linestyle names all dash patterns alike, so the patterns themselves are compared.
    assert len({str(line._unscaled_dash_pattern) for line in ax.lines}) == 7


def test_lines_options_reach_the_axes():
    ax: Any = plot.lines(
        [1, 10, 100], {"a": [0.1, 0.5, 0.9]}, title="t", xlabel="x", ylabel="y", logx=True, percent=True,
        references={"float32": 0.95}, xticks=[1, 100],
    )  # fmt: skip
    assert ax.get_xscale() == "log"
    assert labels(ax) == ["a", "float32"]
    assert list(ax.get_xticks()) == [1, 100]
    assert ax.yaxis.get_major_formatter()(0.5) == "50%"
    assert (
        plot.lines([1, 2], {"a": [1, 2]}, title="t", xlabel="x", ylabel="y", logy=True).get_yscale() == "log"
    )


@pytest.mark.parametrize(
    ("x", "ys", "message"),
    [
        ([1, 2], {}, "1 to 7 curves, got 0"),
        ([1], {str(i): [1] for i in range(8)}, "1 to 7 curves, got 8"),
        ([1, 2], {"a": [1]}, r"ys\['a'\] has 1 values, but x has 2"),
        ([1, 2], {"a": [1, math.nan]}, r"ys\['a'\] holds nan"),
        ([], {"a": []}, "x is empty"),
    ],
    ids=["none", "too_many", "length", "nan", "empty"],
)
def test_curves_that_cannot_be_drawn_are_refused(x, ys, message):
    with pytest.raises(ValueError, match=message):
        plot.lines(x, ys, title="t", xlabel="x", ylabel="y")


def test_bars_have_the_heights_given_and_carry_them_as_text():
    ax: Any = plot.bars(
        {"int8": 0.891, "int4": 0.8}, title="t", ylabel="y", percent=True, references={"f": 0.9}
    )
    assert [bar.get_height() for bar in ax.patches] == [0.891, 0.8]
    assert [text.get_text() for text in ax.texts] == ["89.1%", "80.0%"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["int8", "int4"]
    assert labels(ax) == ["f"]


def test_groups_of_bars_do_not_overlap_and_differ_in_hatch():
    ax: Any = plot.bars({"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 4}}, title="t", ylabel="y", fmt="")
    spans = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches)
    assert all(right <= left for (_, right), (left, _) in itertools.pairwise(spans))
    assert len({bar.get_hatch() for bar in ax.patches}) == 2
    assert labels(ax) == ["a", "b"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "empty"),
        ({"a": 1, "b": {"x": 1}}, "must map to numbers, or all of them"),
        ({"a": {"x": 1}, "b": {"y": 1}}, r"series 'b' has categories \['y'\]"),
        ({"a": math.inf}, "holds inf"),
        ({str(i): {"x": 1} for i in range(8)}, "at most 7 series"),
    ],
    ids=["empty", "mixed", "categories", "inf", "too_many"],
)
def test_bars_that_cannot_be_drawn_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        plot.bars(values, title="t", ylabel="y")


def test_logarithmic_bars_stay_in_the_figure():
    ax: Any = plot.bars({"a": 1, "b": 1000}, title="t", ylabel="y", logy=True, references={"r": 10})
    assert ax.get_yscale() == "log"
    assert ax.get_ylim()[1] > 1000


# images


@pytest.mark.parametrize("captions", [None, list("abcdefg")], ids=["bare", "captions"])
def test_grid_shows_each_image_unchanged_in_reading_order(captions):
    pictures = torch.rand(7, 1, 6, 5, generator=torch.Generator().manual_seed(0))
    ax: Any = plot.images(pictures, captions, title="t", n_columns=3)
    canvas = np.asarray(ax.images[0].get_array().filled(np.nan))
    filled = ~np.isnan(canvas)
    assert filled.sum() == pictures.numel()
    rows = np.flatnonzero(filled.any(1))
    tops = [int(r) for r in rows if r - 1 not in rows]
    columns = np.flatnonzero(filled[:6].any(0))
    lefts = [int(c) for c in columns if c - 1 not in columns]
    assert (len(tops), len(lefts)) == (3, 3)
    for i, picture in enumerate(pictures[:, 0]):
        top, left = tops[i // 3], lefts[i % 3]
        assert np.array_equal(canvas[top : top + 6, left : left + 5], picture.numpy())
    assert [text.get_text() for text in ax.texts] == (captions or [])


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((3, 3, 8, 8), {}, r"got \(3, 3, 8, 8\)"),
        ((8, 8), {}, r"got \(8, 8\)"),
        ((0, 1, 8, 8), {}, r"got \(0, 8, 8\)"),
        ((2, 1, 8, 8), {"captions": ["a"]}, "1 strings for 2 images"),
        ((2, 1, 8, 8), {"n_columns": 0}, "at least 1, got 0"),
    ],
    ids=["colour", "one_image", "none", "captions", "columns"],
)
def test_images_of_another_shape_are_refused(shape, options, message):
    with pytest.raises(ValueError, match=message):
        plot.images(torch.zeros(shape), title="t", **options)


def test_images_with_nan_are_refused():
    with pytest.raises(ValueError, match="NaN or inf"):
        plot.images(torch.full((1, 4, 4), math.nan), title="t")


# Pareto


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_front_is_every_point_that_none_beats(points):
    """The oracle compares all pairs."""

    def beaten(i):
        cost, gain = points[i]
        return any(
            (c <= cost and g >= gain and (c, g) != (cost, gain)) or ((c, g) == (cost, gain) and j < i)
            for j, (c, g) in enumerate(points)
        )

    front = plot.pareto_front([c for c, _ in points], [g for _, g in points])
    assert sorted(front) == [i for i in range(len(points)) if not beaten(i)]
    assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)


def test_pareto_plot_fills_the_front_only_and_names_every_point():
    ax: Any = plot.pareto(ROWS, title="t", group="by")
    points = {line.get_xdata()[0]: line for line in ax.lines if len(line.get_xdata()) == 1}
    hollow = {x for x, line in points.items() if to_rgb(line.get_markerfacecolor()) == (1, 1, 1)}
    assert set(points) == {row["size_bytes"] for row in ROWS}
    assert hollow == {300_000}
    assert {text.get_text() for text in ax.texts} == {row["name"] for row in ROWS}
    assert labels(ax) == ["reference", "yours", "Pareto front"]
    assert points[1_000_000].get_marker() != points[250_000].get_marker()
    assert ax.get_xscale() == "log"


def test_names_of_crowded_points_neither_overlap_nor_leave_the_axes():
    rows = [{"name": f"step {i}", "size_bytes": 1000 + i, "accuracy": 0.9} for i in range(2)]
    rows += [{"name": "far", "size_bytes": 5000, "accuracy": 0.5}]
    ax: Any = plot.pareto(rows, title="t")
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    frame = ax.get_window_extent()
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)


def test_sizes_are_written_in_decimal_units():
    ax: Any = plot.pareto(ROWS, title="t")
    formatter = ax.xaxis.get_major_formatter()
    assert [formatter(x) for x in (12, 1500, 2_000_000)] == ["12 B", "1.5 kB", "2 MB"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "size_bytes is empty"),
        ([{"name": "a", "accuracy": 1.0}], "no 'size_bytes'"),
        ([{"name": "a", "accuracy": math.nan, "size_bytes": 1}], "accuracy holds nan"),
    ],
    ids=["none", "key", "nan"],
)
def test_pareto_rows_that_cannot_be_drawn_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        plot.pareto(rows, title="t")


# quantization


def ticks_of(ax) -> list[np.ndarray]:
    collections = [c for c in ax.collections if isinstance(c, LineCollection)]
    return [np.array([segment[0][0] for segment in c.get_segments()]) for c in collections]


@pytest.mark.parametrize("log", [False, True], ids=["linear", "log"])
def test_histogram_counts_every_value_and_ticks_every_level(log):
    ax: Any = plot.histogram_with_levels(WEIGHT, {"wide": LEVELS, "narrow": LEVELS / 2}, title="t", log=log)
    counts, edges = np.histogram(WEIGHT.double().numpy(), bins=120)
    bars = [patch for patch in ax.patches if patch.get_width() == pytest.approx(edges[1] - edges[0])]
    assert [bar.get_height() for bar in bars] == counts.tolist()
    wide, narrow = ticks_of(ax)
    assert np.allclose(wide, LEVELS.numpy(), atol=1e-6)
    assert np.allclose(narrow, LEVELS.numpy() / 2, atol=1e-6)
    assert labels(ax) == ["wide: 16 levels", "narrow: 16 levels"]
    assert all(tick >= 0 for tick in ax.get_yticks())
    lo, hi = ax.get_xlim()
    assert lo < -3
    assert hi > 3


def test_histogram_of_a_constant_and_of_256_levels_can_be_drawn():
    png(plot.histogram_with_levels(torch.zeros(10), torch.zeros(1), title="t"))
    ax: Any = plot.histogram_with_levels(WEIGHT, torch.linspace(-3, 3, 256), title="t", xlim=(-1, 1))
    assert len(ticks_of(ax)[0]) == 256
    assert ax.get_xlim() == (-1, 1)


@pytest.mark.parametrize(
    ("x", "levels", "message"),
    [
        (torch.zeros(0), LEVELS, "x is empty"),
        (WEIGHT, [], "levels is empty"),
        (WEIGHT, {}, "1 to 7 rows, got 0"),
        (torch.tensor([math.inf]), LEVELS, "x holds inf"),
    ],
    ids=["no_values", "no_levels", "no_rows", "inf"],
)
def test_histogram_that_cannot_be_drawn_is_refused(x, levels, message):
    with pytest.raises(ValueError, match=message):
        plot.histogram_with_levels(x, levels, title="t")


def test_staircase_is_the_quantizers_own_output():
    ax: Any = plot.staircase({"fine": on_grid, "coarse": lambda x: x.round()}, -2, 2, title="t")
    fine = next(line for line in ax.lines if line.get_label() == "fine")
    x = torch.from_numpy(np.asarray(fine.get_xdata()))
    assert np.array_equal(fine.get_ydata(), on_grid(x).numpy())
    assert labels(ax) == ["nothing lost", "fine", "coarse"]
    assert "error" in labels(plot.staircase(on_grid, -2, 2, title="t"))


def test_staircase_refuses_a_reversed_range_and_a_function_that_drops_values():
    with pytest.raises(ValueError, match="lo must be below hi, got 1 and 1"):
        plot.staircase(on_grid, 1, 1, title="t")
    with pytest.raises(ValueError, match=r"returned shape \(1,\) for input \(2001,\)"):
        plot.staircase(lambda x: x[:1], -1, 1, title="t")


def test_error_by_bits_draws_the_slope_of_theory():
    errors = [3 * 4.0**-b for b in BITS]
    ax: Any = plot.error_by_bits(BITS, {"measured": errors}, title="t")
    measured, theory = ax.lines
    assert np.allclose(measured.get_ydata(), theory.get_ydata(), rtol=1e-12)
    assert ax.get_yscale() == "log"
    decibels: Any = plot.error_by_bits(BITS, {"m": [6.0206 * b for b in BITS]}, title="t", decibel=True)
    assert np.allclose(decibels.lines[0].get_ydata(), decibels.lines[1].get_ydata(), atol=1e-3)
    assert decibels.get_yscale() == "linear"
    assert len(plot.error_by_bits(BITS, {"m": errors}, title="t", theory=False).lines) == 1


def test_clip_curve_stacks_its_parts_and_marks_the_least_sum():
    ax: Any = plot.clip_curve([1, 2, 3], [3.0, 1.0, 0.0], [0.5, 0.75, 2.5], title="t")
    total = next(line for line in ax.lines if line.get_label() == "both")
    assert list(total.get_ydata()) == [3.5, 1.75, 2.5]
    assert "least error, at 2" in labels(ax)
    hatches = {fill.get_hatch() for fill in ax.collections}
    assert len(hatches) == 2
    assert plot.clip_curve([1, 2], [0.0, 0.0], [0.0, 0.0], title="t").get_ylim()[1] > 0


@pytest.mark.parametrize(
    ("clipping", "rounding", "message"),
    [
        ([1.0], [1.0, 2.0], "clipping error has 1 values, but thresholds has 2"),
        ([1.0, 2.0], [-1.0, 2.0], "rounding error holds -1"),
        ([1.0, math.nan], [1.0, 2.0], "clipping holds nan"),
    ],
    ids=["length", "negative", "nan"],
)
def test_clip_curve_that_cannot_be_drawn_is_refused(clipping, rounding, message):
    with pytest.raises(ValueError, match=message):
        plot.clip_curve([1, 2], clipping, rounding, title="t")


@pytest.mark.parametrize(("dim", "n"), [(0, 20), (1, 30)])
def test_channel_ranges_are_sorted_and_exact(dim, n):
    ax: Any = plot.channel_ranges(WEIGHT, dim=dim, title="t")
    bars = ax.containers[0]
    rows = WEIGHT.movedim(dim, 0).flatten(1).double()
    expected = sorted((rows.amax(1) - rows.amin(1)).tolist())
    assert len(bars) == n
    assert [bar.get_height() for bar in bars] == pytest.approx(expected, rel=1e-12)
    assert labels(ax) == ["range of the whole tensor", "range of one channel"]


def test_channel_ranges_of_a_convolution_and_of_a_vector_can_be_drawn():
    for shape, n in (((6, 3, 5, 5), 6), ((4,), 4)):
        ax: Any = plot.channel_ranges(torch.ones(shape), title="t")
        assert len(ax.containers[0]) == n
    with pytest.raises(ValueError, match="weight is empty"):
        plot.channel_ranges(torch.zeros(0, 3), title="t")


def test_magnitudes_count_each_power_of_two_and_mark_the_format():
    x = torch.tensor([0.0, 1.0, 1.5, -1.9, 2.0**-30, -1e5])
    ax: Any = plot.magnitudes({"x": x}, title="t", format_name="FP16", **HALF_LIMITS)
    (stairs,) = [patch for patch in ax.patches if hasattr(patch, "get_data")]
    shares, edges, _ = stairs.get_data()
    counted = {int(edge): round(5 * share) for edge, share in zip(edges[:-1], shares, strict=True) if share}
    assert counted == {0: 3, -30: 1, 16: 1}
    assert labels(ax) == ["0 in FP16", "subnormal", "inf", "x"]


@pytest.mark.parametrize(
    ("values", "limits", "message"),
    [
        ({}, HALF_LIMITS, "1 to 7 tensors, got 0"),
        ({"x": torch.zeros(3)}, HALF_LIMITS, "all zero"),
        ({"x": torch.tensor([torch.nan])}, HALF_LIMITS, "holds nan"),
        ({"x": torch.ones(3)}, HALF_LIMITS | {"smallest": 1.0}, "must rise"),
    ],
)
def test_magnitudes_refuses_what_it_cannot_draw(values, limits, message):
    with pytest.raises(ValueError, match=message):
        plot.magnitudes(values, title="t", **limits)
