"""coursekit.ledger: rows are kept, in order, whole, whatever happens to the file."""

import json
import math
import os
from pathlib import Path

import matplotlib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from coursekit.ledger import Entry, Ledger, course_rows
from tools.course_ledger import ROOT
from tools.course_ledger import course_rows as rows_of_built_lessons

LESSON = "01-affine-quantization"


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    """Where the environment says the ledger is; nothing is there yet."""
    where = tmp_path / "some" / "folder" / "ledger.json"
    monkeypatch.setenv("COURSEKIT_LEDGER", str(where))
    return where


def filled() -> Ledger:
    ledger = Ledger.open()
    ledger.add(
        lesson=LESSON, step="float32", accuracy=0.89, size_bytes=1_066_896, macs=266_200, nonzero=266_610,
        latency_ratio=1.0, by="reference",
    )  # fmt: skip
    ledger.add(lesson=LESSON, step="int8", accuracy=0.8899, size_bytes=268_520)
    return ledger


def test_what_was_added_is_there_when_opened_again(path):
    rows = filled().rows
    assert Ledger.open().rows == rows
    assert rows[0] == Entry(LESSON, "float32", 0.89, 1_066_896, 266_200, 266_610, 1.0, "reference")
    assert rows[1].by == "yours"
    assert len(Ledger.open()) == 2


def test_a_path_given_comes_before_the_environment(path, tmp_path):
    Ledger.open(tmp_path / "other.json").add(lesson="a", step="b", accuracy=0.5)
    assert not path.exists()
    assert len(Ledger.open(str(tmp_path / "other.json"))) == 1


def test_without_either_the_ledger_is_in_the_users_data_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("COURSEKIT_LEDGER", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("platformdirs.user_data_path", lambda name, author: tmp_path / name)
    assert Ledger.open().path == tmp_path / "coursekit" / "ledger.json"


def test_same_lesson_and_step_replace_the_row_in_its_place(path):
    ledger = filled()
    ledger.add(lesson=LESSON, step="float32", accuracy=0.91, size_bytes=1)
    assert [(row.step, row.accuracy) for row in Ledger.open().rows] == [("float32", 0.91), ("int8", 0.8899)]
    ledger.add(lesson="02-other", step="float32", accuracy=0.5)
    assert len(ledger) == 3


@settings(deadline=None)  # a busy disk is no failure
@given(
    order=st.permutations(["01", "02", "03"]), again=st.lists(st.sampled_from(["01", "02", "03"]), max_size=4)
)
def test_order_of_the_lessons_does_not_change_the_file(order, again, tmp_path_factory):
    """Each lesson adds its steps in its own order; lessons run in any order, some repeatedly."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.json"
    for lesson in [*order, *again]:
        for step in ("z", "a"):
            Ledger.open(path).add(lesson=lesson, step=step, accuracy=0.5)
    expected = [(lesson, step) for lesson in ("01", "02", "03") for step in ("z", "a")]
    assert [(row["lesson"], row["step"]) for row in json.loads(path.read_text("utf-8"))["rows"]] == expected


def test_two_open_notebooks_do_not_lose_each_others_rows(path):
    first, second = Ledger.open(), Ledger.open()
    first.add(lesson="01", step="a", accuracy=0.1)
    second.add(lesson="02", step="b", accuracy=0.2)
    first.add(lesson="01", step="c", accuracy=0.3)
    assert [row.step for row in Ledger.open().rows] == ["a", "c", "b"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"format": 2, "rows": []}', b'{"format": 1}', b'{"format": 1, "rows": [{"lesson": "a"}]}',
     b'{"format": 1, "rows": [{"lesson": "a", "step": "b", "accuracy": 7}]}',
     b'{"format": 1, "rows": [{"lesson": "a", "step": "b", "accuracy": 1, "x": 1}]}', b"\xff\xfe", b"[" * 100_000],
    ids=["empty", "cut", "list", "newer", "no_rows", "no_step", "accuracy", "unknown_key", "not_text", "deep"],
)  # fmt: skip
def test_damaged_file_is_kept_beside_the_new_ledger(path, content, capsys):
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    ledger = Ledger.open()
    assert "was damaged" in capsys.readouterr().out
    assert len(ledger) == 0
    ledger.add(lesson="a", step="b", accuracy=0.5)
    assert len(Ledger.open()) == 1
    assert path.with_name("ledger.json.bak").read_bytes() == content


def test_second_damaged_file_does_not_overwrite_the_first(path, capsys):
    path.parent.mkdir(parents=True)
    for content in ("one", "two"):
        path.write_text(content, encoding="utf-8")
        Ledger.open()
    assert path.with_name("ledger.json.bak").read_text("utf-8") == "one"
    assert path.with_name("ledger.json.bak2").read_text("utf-8") == "two"
    assert "ledger.json.bak2" in capsys.readouterr().out


def test_folder_that_cannot_be_written_keeps_rows_in_memory_and_says_the_mend(tmp_path, capsys):
    (tmp_path / "a_file").write_text("", encoding="utf-8")
    ledger = Ledger.open(tmp_path / "a_file" / "ledger.json")  # a file where the folder should be
    ledger.add(lesson="a", step="b", accuracy=0.5)
    ledger.add(lesson="a", step="c", accuracy=0.6)
    assert [row.step for row in ledger.rows] == ["b", "c"]
    printed = capsys.readouterr().out
    assert "Set COURSEKIT_LEDGER to a file you may write" in printed
    assert printed.count("COURSEKIT_LEDGER") == 1
    assert "Not saved" in ledger._repr_html_()


def test_interrupted_write_leaves_the_old_file_whole_and_nothing_beside_it(path, monkeypatch, capsys):
    ledger = filled()
    before = path.read_bytes()

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    ledger.add(lesson=LESSON, step="int4", accuracy=0.7)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["ledger.json"]
    assert len(ledger) == 3
    assert "Permission denied" in capsys.readouterr().out


def test_damaged_file_that_cannot_be_moved_is_left_alone(path, monkeypatch, capsys):
    path.parent.mkdir(parents=True)
    path.write_text("damaged", encoding="utf-8")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    ledger = Ledger.open()
    monkeypatch.undo()
    ledger.add(lesson="a", step="b", accuracy=0.5)
    assert path.read_text("utf-8") == "damaged"
    assert "cannot be moved" in capsys.readouterr().out
    assert len(ledger) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"accuracy": 89.0}, "share from 0 to 1, got 89.0; divide"),
        ({"accuracy": math.nan}, "accuracy must be a finite float of at least 0, got nan"),
        ({"accuracy": -0.1}, "got -0.1"),
        ({"size_bytes": 10.5}, "size_bytes must be an int of at least 0, got 10.5"),
        ({"macs": -1}, "macs must be an int of at least 0, got -1"),
        ({"nonzero": True}, "nonzero must be an int of at least 0, got True"),
        ({"latency_ratio": math.inf}, "latency_ratio must be a finite float"),
        ({"accuracy": 0.5, "by": "me"}, "'yours' or 'reference', got 'me'"),
        ({"accuracy": 0.5, "step": " "}, "step must be a name, got ' '"),
        ({"accuracy": 0.5, "lesson": 1}, "lesson must be a name, got 1"),
        ({}, "nothing was measured for 's'"),
    ],
    ids=[
        "per_cent",
        "nan",
        "negative",
        "half_a_byte",
        "macs",
        "bool",
        "inf",
        "by",
        "step",
        "lesson",
        "nothing",
    ],
)
def test_row_that_makes_no_sense_is_refused_and_nothing_changes(path, values, message):
    ledger = filled()
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        ledger.add(**{"lesson": "l", "step": "s", **values})
    assert len(ledger) == 2
    assert path.read_bytes() == before


def test_text_is_the_table_with_what_was_not_measured_left_out(path):
    ledger = filled()
    assert repr(ledger) == repr(Ledger.open())
    header, first, second = repr(ledger).splitlines()
    headings = "lesson step accuracy bytes smaller non-zero MACs latency ratio by"
    assert header.split() == headings.split()
    assert first.split() == f"{LESSON} float32 0.8900 1,066,896 1.0× 266,610 266,200 1.00 reference".split()
    assert second.split() == f"{LESSON} int8 0.8899 268,520 4.0× – – – yours".split()


def test_jupyter_shows_a_table_with_names_escaped(path):
    ledger = Ledger.open()
    assert ledger._repr_html_() == "<p>The ledger is empty.</p>"
    assert repr(ledger) == "The ledger is empty."
    ledger.add(lesson="a", step="<script>", accuracy=0.5)
    assert "&lt;script&gt;" in ledger._repr_html_()
    assert "<script>" not in ledger._repr_html_()


def test_plot_has_a_point_for_each_row_with_accuracy_and_size(path):
    ledger = filled()
    ledger.add(lesson=LESSON, step="no size", accuracy=0.8)
    ax = ledger.plot(title="Four times smaller, as good")
    assert {text.get_text() for text in ax.texts} == {"float32", "int8"}
    assert ax.get_title(loc="left") == "Four times smaller, as good"
    plt.close("all")


def test_plot_of_nothing_says_what_to_do(path):
    with pytest.raises(ValueError, match="run a lesson's ledger cell first"):
        Ledger.open().plot()


def test_rows_beside_are_a_group_of_their_own_and_give_way_to_the_students(path):
    ledger = filled()
    beside = [
        Entry(LESSON, "int8", 0.88, 270_000, by="reference"),  # the ledger has its own row of that
        Entry("05-weight-pruning", "half", 0.88, 500_000, by="reference"),
    ]
    ax = ledger.plot(title="The course", beside=beside)
    groups = [text.get_text() for text in ax.get_legend().get_texts()]
    assert groups == ["our function, your run", "yours", "ours, not in your ledger yet", "Pareto front"]
    assert sorted(text.get_text() for text in ax.texts) == ["01", "01", "05"]
    plt.close("all")


def test_an_empty_ledger_beside_the_courses_rows_still_shows_the_course(path):
    ax = Ledger.open().plot(title="The course", beside=course_rows())
    assert {text.get_text() for text in ax.texts} == {f"{n:02d}" for n in range(1, 15)}
    plt.close("all")


def test_the_courses_rows_are_what_the_built_lessons_show():
    """If this fails: run `python tools/course_ledger.py`, then build lesson 15 again."""
    assert list(course_rows()) == [Entry(**row) for row in rows_of_built_lessons()]
    lessons = {path.stem for path in (ROOT / "lessons").glob("*/*.py")} - {"15-compression-pipeline"}
    assert {row.lesson for row in course_rows()} == lessons
    assert all(row.accuracy and row.size_bytes and row.by == "reference" for row in course_rows())
