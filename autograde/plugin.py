"""What makes nbgrader use this course's folders and harness: called once from `nbgrader_config.py`."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from pathlib import Path

from nbgrader.apps import api, autogradeapp
from traitlets.config import Config

from autograde.converter import HarnessAutograde

__all__ = ["COURSE_ID", "NO_SANDBOX", "install"]

COURSE_ID = "model-optimization"
NO_SANDBOX = "AUTOGRADE_NO_SANDBOX"
WITHOUT = "Run student code with no protection at all."
KEPT_BACK = ("intake.json", "*.part")  # of the files beside a notebook, these go no further


def install(c: Config, root: Path) -> None:
    """Sets nbgrader up for this course; what the caller sets afterwards wins.

    Every stock command keeps working from the repository root. `nbgrader autograde` takes submissions in, runs them in
    the sandbox; `--Autograde.sandbox=False` or `AUTOGRADE_NO_SANDBOX=1` runs them without.

    Args: c: the configuration object of a traitlets config file. root: the folder that holds solutions/ and notebooks/.
    """
    root = root.resolve()
    _put_programs_on_path()
    _map_folders(c, root)
    c.OverwriteCells.add_missing_cells = True
    c.AssignLatePenalties.plugin_class = "autograde.late.LatePolicy"  # takes off nothing until it is told to
    _make_pages_inert(c)
    if os.environ.get(NO_SANDBOX, "") not in ("", "0"):
        c.Autograde.sandbox = False
    warnings.filterwarnings(
        "ignore", message="Object of type <Submitted.*> not in session"
    )  # SQLAlchemy to nbgrader
    # nbgrader has no setting for its converter: the command and the API (formgrader) look this name up.
    autogradeapp.Autograde = HarnessAutograde
    api.Autograde = HarnessAutograde
    # For whoever starts the application after this; the `nbgrader` program reads its options before its configuration.
    autogradeapp.AutogradeApp.flags["no-sandbox"] = ({"Autograde": {"sandbox": False}}, WITHOUT)


def _put_programs_on_path() -> None:
    """nbgrader starts `alembic` by name; it is beside this Python even when no environment is activated."""
    folder = str(Path(sys.executable).parent)
    if folder not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([folder, os.environ.get("PATH", "")])


def _map_folders(c: Config, root: Path) -> None:
    classroom = root / "classroom"
    c.CourseDirectory.root = str(root)
    c.CourseDirectory.course_id = COURSE_ID
    c.CourseDirectory.source_directory = "solutions"
    c.CourseDirectory.release_directory = "notebooks"
    for step in ("submitted", "autograded", "feedback"):
        c.CourseDirectory[f"{step}_directory"] = f"classroom/{step}"
    c.CourseDirectory.db_url = f"sqlite:///{classroom / 'gradebook.db'}"
    c.CourseDirectory.ignore = [".ipynb_checkpoints", "*.pyc", "__pycache__", "feedback", *KEPT_BACK]
    c.Exchange.root = str(classroom / "exchange")
    c.ExportPlugin.to = str(classroom / "grades.csv")
    c.ZipCollectApp.downloaded_directory = "classroom/downloaded"
    with contextlib.suppress(OSError):  # a read-only copy of the course can still be read and validated
        (classroom / "exchange").mkdir(parents=True, exist_ok=True)


def _make_pages_inert(c: Config) -> None:
    """Feedback and formgrader show what students wrote: rendered, then cleaned."""
    c.HTMLExporter.sanitize_html = True
    c.HTMLExporter.filters = {
        "markdown2html": "autograde.sanitize.safe_markdown",
        "clean_html": "autograde.sanitize.safe_html",
    }
