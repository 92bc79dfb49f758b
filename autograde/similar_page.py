"""The page of `python -m autograde similar`: pairs of submissions side by side, needing nothing but itself."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

import jinja2

from autograde.layout import atomic_write

__all__ = ["render_page", "write_page"]


def write_page(root: Path, assignment: str, pairs: Sequence[object], of: int, submissions: int) -> Path:
    """Writes the page beside the class report and returns where it is.

    Args: pairs: those to show, of `of` that were found among so many submissions.
    """
    path = root / "classroom" / "report" / assignment / "similar.html"
    atomic_write(path, render_page(assignment, pairs, of, submissions))
    return path


def render_page(assignment: str, pairs: Sequence[object], of: int, submissions: int) -> str:
    """The page as HTML; all text of students is escaped by the template, and the page allows no script."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "assets"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals.update(numbered=lambda text: enumerate(text.splitlines(), 1))
    return environment.get_template("similar.html.j2").render(
        assignment=assignment,
        pairs=pairs,
        of=of,
        submissions=submissions,
        made=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    )
