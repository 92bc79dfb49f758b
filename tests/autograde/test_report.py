"""The class report: right numbers, nothing active, nothing fetched."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from autograde.__main__ import main
from autograde.report import Comparison, render, report_path, write_report
from tests.autograde.madebook import collected, enter, report
from tests.autograde.tinycourse import ASSIGNMENT, LESSON

EVIL = "<script>alert(1)<|script>\"'><img src=x onerror=alert(1)>".replace("|", "\N{DIVISION SLASH}")


class Page(HTMLParser):
    """The tags, the texts and the tables of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.rows, self._cell = [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "a":
            self.links.append(dict(attrs)["href"])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = None

    def handle_data(self, data):
        if self._cell:
            self.rows[-1][-1] += f" {data}" if self.rows[-1][-1] else data

    def row(self, first):
        """The first row that begins with this text."""
        return next(row for row in self.rows if row and row[0] == first)


def page_of(course, compared=()):
    marks = collected(course)
    return render(marks, course, report_path(course, ASSIGNMENT).parent, compared)


def test_points_stand_in_the_students_row_in_the_columns_order(course):
    enter(course, "ada", 2, 1.5, why=0)
    enter(course, "bob", 0, 0.5, why=None, shown={"check-square": "CellTimeoutError"})
    page = Page(page_of(course))
    assert page.row("ada")[:5] == ["ada", "2", "1.5", "–", "3.5"]
    assert page.row("bob") == ["bob", "0 time-out", "0.5", "? to mark", "0.5", "time-out"]
    assert page.row("Mean")[:3] == ["Mean", "1", "1"]


@pytest.mark.parametrize(
    ("points", "css"), [(2, "l0"), (1.5, "l1"), (1, "l2"), (0.5, "l3"), (0.1, "l4"), (0, "l5")]
)
def test_the_colour_of_a_cell_follows_the_share_that_was_lost(course, points, css):
    enter(course, "ada", points)
    assert f'<td class="{css}"' in page_of(course)


def test_mistakes_are_shown_with_how_often_and_who(course):
    mistake = [("doubles", "You double `x`.")]
    for student in ("ada", "bob"):
        enter(course, student, 1, shown={"check-square": report("failed", mistake)})
    page = Page(page_of(course))
    assert page.row("2")[1:] == ["square", "You double  x .", "ada, bob"]


def test_item_statistics_are_shown_from_eight_students_on(course):
    for place in range(8):
        enter(course, f"s{place}", 2 if place < 6 else 0, 2 if place < 5 else 1)
    page = Page(page_of(course))
    row = next(row for row in page.rows if row and row[0] == "square" and len(row) == 7)
    # Full marks: 5 of 6 and 0 of 2 have 2 points in the other column: r = (11/6 - 1) / 0.4841 * sqrt(3/16) = 0.745
    assert row == ["square", "2", "8", "1.5", "75 %", "0.25", "0.75"]


def test_text_from_students_is_never_active(course):
    enter(
        course,
        EVIL,
        0,
        why=None,
        shown={"check-square": report("failed", [("x", EVIL)], [EVIL])},
        findings=[{"message": EVIL, "grade_id": EVIL, "human": True}, {"message": EVIL, "human": False}],
    )
    enter(course, "cy", 0, shown={"check-square": report("raised", [], [EVIL])})
    text = page_of(course, [Comparison(EVIL, 1, 0, EVIL, (EVIL,))])
    page = Page(text)
    assert not {"script", "img", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert text.count("&lt;script&gt;alert(1)") >= 8


def test_the_page_needs_nothing_but_itself(course):
    enter(course, "ada", findings=[{"message": "was renamed", "human": False}])
    text = page_of(course)
    page = Page(text)
    assert not {"link", "script", "img"} & {tag for tag, _ in page.tags}
    assert not any("src" in attributes for _, attributes in page.tags)
    assert "url(" not in text
    assert "@import" not in text
    assert re.findall(r"https?:", text) == []
    policy = next(attributes["content"] for tag, attributes in page.tags if attributes.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


@pytest.mark.parametrize("student", ["ada", "a b#c?d%2e", "javascript:alert(1)", "..."])
def test_links_lead_to_files_that_exist(course, student):
    enter(course, student, 0, why=None, findings=[{"message": "was cut off", "human": True}])
    path = write_report(collected(course), course)
    links = [link for link in Page(path.read_text(encoding="utf-8")).links if not link.startswith("#")]
    assert links
    for link in links:
        assert link.startswith("../")
        assert (path.parent / unquote(link)).exists()


def test_tables_have_headers_with_a_scope(course):
    enter(course, "ada", 1, shown={"check-square": report("failed", [("x", "y")])})
    headers = [attributes for tag, attributes in Page(page_of(course)).tags if tag == "th"]
    assert headers
    assert {attributes.get("scope") for attributes in headers} == {"col", "row"}


def test_a_class_without_submissions_has_a_page_too(course):
    assert "submissions" in page_of(course)


def test_a_made_class_says_whether_the_marks_agree(course):
    enter(course, "ada")
    text = page_of(course, [Comparison("ada", 4, 4, ""), Comparison("bob", 1, 2, "why", ("square: 1, 2",))])
    assert "1 of 2 agree" in text
    assert Page(text).row("bob")[-2:] == ["✗ square: 1, 2", "why"]


def test_the_command_writes_the_page_and_both_csv_files(course, capsys):
    enter(course, "ada")
    assert main(["report", ASSIGNMENT, "--root", str(course)]) == 0
    names = capsys.readouterr().out.split()
    assert names == [
        f"classroom/report/{ASSIGNMENT}/{name}" for name in ("index.html", "marks.csv", "nbgrader.csv")
    ]
    assert all((course / name).stat().st_size for name in names)
    assert LESSON in (course / names[0]).read_text(encoding="utf-8")
