"""HTML of unknown origin: what is active goes, what is a table stays."""

from __future__ import annotations

import re

import pytest

from autograde.outputs import CHECK_MIME, OutputBuffer, safe_data
from autograde.sanitize import safe_html, safe_markdown

ACTIVE = re.compile(
    r"<\s*(script|iframe|svg|object|embed|form|input|link|meta|base|style|math)|\son\w+\s*=|javascript:|url\(",
    re.I,
)


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<scr<script>ipt>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<img src='https://evil.example/pixel.png'>",
        "<img src='../../api/delete.png'>",
        "<svg onload=alert(1)><a>x</a></svg>",
        "<a href='javascript:alert(1)'>x</a>",
        "<a href=' java\nscript:alert(1)'>x</a>",
        "<a href='data:text/html,<script>1</script>'>x</a>",
        "<iframe src='//evil.example'></iframe>",
        "<form action=/api><input name=a></form>",
        "<div style='background: url(https://evil.example/x)'>x</div>",
        "<div style='background: u\\72l(x)'>x</div>",
        "<style>@import 'x'</style><link rel=stylesheet href=x><meta http-equiv=refresh content=0><base href=x>",
        "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)></style></mglyph></table></mtext></math>",
        "<noscript><p title='</noscript><img src=x onerror=alert(1)>'></noscript>",
        "<table><td onclick=alert(1) style='color:red;behavior:url(x)'>x",
    ],
)
def test_nothing_active_is_left(text):
    for cleaned in (safe_html(text), safe_html(safe_html(text)), safe_markdown({}, text)):
        in_tags = "".join(re.findall(r"<[^>]*>", cleaned))
        assert not ACTIVE.search(in_tags), cleaned
        assert "evil" not in in_tags
        assert ".." not in in_tags


def test_a_check_table_stays_as_it_is():
    table = '<table class="check" style="color: green;"><tbody><tr><td colspan="2">1 &lt; 2</td></tr></tbody></table>'
    assert safe_html(table) == table


def test_hints_formulas_and_pictures_of_the_lesson_stay():
    text = '<details><summary>Hint</summary>\n\nTry $a < b$.\n\n</details>\n\n![fig](figures/one.png "One")'
    cleaned = safe_markdown({}, text)
    assert "<details>" in cleaned
    assert "$a &lt; b$" in cleaned
    assert 'src="figures/one.png"' in cleaned


def test_endless_html_is_replaced_by_a_note():
    assert safe_html("<b>" * 200_000).startswith("<p>This output was left out")


def test_only_showable_parts_of_an_output_are_kept():
    data = {
        "text/plain": "x\x00\ud800",
        "text/html": "<b onclick=x>b</b>",
        "image/png": "AAAA",
        "image/jpeg": 'AAAA"><script>',
        "application/javascript": "alert(1)",
        "application/vnd.jupyter.widget-view+json": {},
        CHECK_MIME: {"points": 1.0},
        "image/svg+xml": "<svg/>",
    }
    kept = {"text/plain": "x?", "text/html": "<b>b</b>", "image/png": "AAAA", CHECK_MIME: {"points": 1.0}}
    assert safe_data(data) == kept
    assert safe_data([1]) == {}


def test_output_beyond_the_cap_is_cut_and_said_to_be():
    buffer = OutputBuffer(100)
    for _ in range(50):
        buffer.add("stream", {"name": "stdout", "text": "0123456789"}, 10)
    first, note = buffer.nodes()
    assert first.text == "0123456789" * 10
    assert "cut off" in note.text


def test_a_progress_bar_leaves_its_last_state():
    buffer = OutputBuffer(1000)
    buffer.add("stream", {"name": "stdout", "text": "10%\r50%\r100%\ndone\r\n"}, 20)
    assert buffer.nodes()[0].text == "100%\ndone\n"


def test_malformed_messages_are_no_outputs():
    buffer = OutputBuffer(1000)
    for kind, content in [
        ("stream", {"name": "x", "text": "a"}),
        ("display_data", {"data": 3}),
        ("error", {"traceback": 5}),
        ("comm_open", {}),
    ]:
        buffer.add(kind, content, 1)
    assert [output.output_type for output in buffer.nodes()] == ["display_data", "error"]


def test_paths_of_this_machine_are_replaced():
    buffer = OutputBuffer(1000, {"/srv/secret": "~"})
    buffer.add("error", {"ename": "E", "evalue": "/srv/secret/x", "traceback": ["in /srv/secret/x"]}, 1)
    buffer.add("execute_result", {"data": {"text/plain": "'/srv/secret'", "text/html": "/srv/secret"}}, 1)
    assert "secret" not in str(buffer.nodes())
