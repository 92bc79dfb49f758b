"""Whatever is changed in the gradebook or in the record behind the harness's back is named."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest
from nbgrader.api import Gradebook

from autograde.chain import START, Chain, check_chain, note_removal, read_lines
from autograde.grading import course_config, grade_assignment
from autograde.plugin import COURSE_ID
from autograde.verify import _main, verify
from tests.autograde.tinycourse import ASSIGNMENT, LESSON, answered


@pytest.fixture(scope="module")
def graded_template(course_template, release, walls, tmp_path_factory) -> Path:
    """A course with three graded students."""
    root = tmp_path_factory.mktemp("verify") / "course"
    shutil.copytree(course_template, root)
    for student, answer in {"ada": "x * x", "bob": "4", "cem": "None"}.items():
        folder = root / "classroom" / "submitted" / student / ASSIGNMENT
        folder.mkdir(parents=True)
        work = answered(release, square=f"def square(x):\n    return {answer}")
        (folder / f"{LESSON}.ipynb").write_text(json.dumps(work), encoding="utf-8")
    grade_assignment(ASSIGNMENT, root=root, settings={"executor": "inline"})
    return root


@pytest.fixture
def root(graded_template, tmp_path) -> Path:
    target = tmp_path / "course"
    shutil.copytree(graded_template, target)
    return target


@pytest.fixture
def gradebook(root):
    """The gradebook, to tamper with."""
    with Gradebook(course_config(root).CourseDirectory.db_url, COURSE_ID) as found:
        yield found


def chain_path(root: Path) -> Path:
    return root / "classroom" / "record" / f"{ASSIGNMENT}.jsonl"


def found(root: Path, head: str | None = None) -> list[str]:
    result = verify(root, ASSIGNMENT, course_config(root), head)
    assert result.ok == (not result.damage and not result.rows)
    return [f"line {each.line}: {each.what}" for each in result.damage] + [str(row) for row in result.rows]


def test_nothing_is_found_where_nothing_was_changed(root):
    result = verify(root, ASSIGNMENT, course_config(root))
    assert (result.ok, result.records, result.by_hand) == (True, 3, ())
    assert result.head == Chain(chain_path(root)).head


def test_a_record_says_what_was_judged_and_how(root):
    record = Chain(chain_path(root)).latest("bob")
    assert record["marks"] == {LESSON: {"check-negate": 2.0, "check-square": 1.0, "why": None}}
    assert {"submission", "release", "code", "environment", "limits", "seed", "repairs", "executor"} <= set(
        record
    )
    judgement = record["judgements"][LESSON]
    assert judgement["start"] in ("cold", "warm")
    assert len(judgement["executed"]) == 64


def test_a_changed_mark_is_named(root, gradebook):
    gradebook.find_grade("check-square", LESSON, ASSIGNMENT, "bob").auto_score = 2
    gradebook.db.commit()
    assert found(root) == [f"bob / {LESSON} / check-square: recorded 1, found 2"]


def test_a_changed_penalty_and_time_are_named(root, gradebook):
    submission = gradebook.find_submission(ASSIGNMENT, "ada")
    submission.notebooks[0].late_submission_penalty = 1.5
    submission.timestamp = submission.timestamp.__class__(2020, 1, 1) if submission.timestamp else None
    gradebook.db.commit()
    assert found(root) == [f"ada / {LESSON} / late penalty: recorded nothing, found 1.50"[:-1]]


def test_a_removed_and_an_invented_submission_are_named(root, gradebook):
    gradebook.remove_student("cem")
    gradebook.add_student("eve")
    gradebook.add_submission(ASSIGNMENT, "eve")
    gradebook.find_grade("check-square", LESSON, ASSIGNMENT, "eve").auto_score = 2
    gradebook.db.commit()
    assert found(root) == [
        "cem: recorded (2), but not in the gradebook",
        "eve: in the gradebook, but never recorded (2)",
    ]


def test_a_removal_that_was_noted_is_in_order(root, gradebook):
    gradebook.remove_student("cem")
    note_removal(root / "classroom" / "record", "cem")
    assert found(root) == []


def test_marks_given_by_hand_are_listed_and_not_held_against_anybody(root, gradebook):
    gradebook.find_grade("why", LESSON, ASSIGNMENT, "ada").manual_score = 0.5
    gradebook.find_grade("check-square", LESSON, ASSIGNMENT, "bob").extra_credit = 1
    gradebook.db.commit()
    result = verify(root, ASSIGNMENT, course_config(root))
    assert result.ok
    assert [str(row) for row in result.by_hand] == [
        f"ada / {LESSON} / why: 0.5 given by hand, nothing by the checks",
        f"bob / {LESSON} / check-square, extra: 1 given by hand, nothing by the checks",
    ]


def test_a_changed_judgement_is_named(root):
    (path,) = (root / "classroom" / "judgements" / "bob" / ASSIGNMENT).glob("*.gz")
    value = json.loads(gzip.decompress(path.read_bytes()))
    value["executed"] = value["executed"].replace("return 4", "return x*x")
    path.write_bytes(gzip.compress(json.dumps(value).encode()))
    (row,) = found(root)
    assert row.startswith(f"bob / {LESSON}: recorded ")


def lines(root: Path) -> list[bytes]:
    return chain_path(root).read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize(
    ("tamper", "expected"),
    [
        (
            lambda one, two, three: [one, two.replace(b'"check-square":1.0', b'"check-square":2.0'), three],
            "damaged",
        ),
        (lambda one, two, three: [one, two[:50] + b"\n", three], "record 2 is damaged"),
        (lambda one, two, three: [one, three], "record 2 is missing"),
        (lambda one, two, three: [three], "records 1 to 2 are missing"),
        (lambda one, two, three: [one, three, two], "record 2 is missing"),
        (lambda one, two, three: [one, two, two, three], "record 2 stands where record 3 should"),
        (lambda one, two, three: [one, two], "cem: in the gradebook, but never recorded"),
    ],
    ids=["changed", "cut_in_two", "removed", "two_removed", "swapped", "twice", "end_cut_off"],
)
def test_a_damaged_record_is_named(root, tamper, expected):
    text = [line.replace(b'"check-square": 1.0', b'"check-square":1.0') for line in lines(root)]
    assert len(text) == 3
    if expected != "damaged":
        text = lines(root)
    chain_path(root).write_bytes(b"".join(tamper(*text)))
    assert any(expected in each for each in found(root))


def test_a_chain_that_was_written_anew_is_told_by_the_head_that_was_noted(root):
    head = Chain(chain_path(root)).head
    records = [json.loads(line) for line in lines(root)]
    chain_path(root).unlink()
    forged = Chain(chain_path(root))
    for record in records:
        forged.append({
            key: record[key] for key in record if key not in ("hash", "previous", "number", "time")
        })
    assert found(root) == []
    assert any("the hash" in each for each in found(root, head))
    assert found(root, START) == []


def test_a_line_cut_short_by_a_crash_is_taken_off_and_said_so(root):
    whole = chain_path(root).read_bytes()
    chain_path(root).write_bytes(whole + b'{"kind": "marks", "stud')
    chain = Chain(chain_path(root))
    assert chain.count == 4
    assert json.loads(lines(root)[3])["kind"] == "torn"
    assert check_chain(list(read_lines(chain_path(root)))) == []
    assert found(root) == []


def test_the_command_says_what_it_found_and_fails(root, gradebook, capsys):
    from argparse import Namespace

    arguments = Namespace(root=root, assignment=ASSIGNMENT, head=None, json=False)
    assert _main(arguments) == 0
    gradebook.find_grade("check-square", LESSON, ASSIGNMENT, "bob").auto_score = 2
    gradebook.db.commit()
    assert _main(arguments) == 1
    out = capsys.readouterr().out
    assert "check-square: recorded 1, found 2" in out
    assert "3 records" in out
