"""nbgrader's settings for this course: our folders, and grading in a sandbox. See autograde/plugin.py."""

import sys
from pathlib import Path

root = Path(__file__).resolve().parent
if str(root) not in sys.path:
    sys.path.insert(0, str(root))

from autograde.plugin import install  # noqa: E402

c = get_config()  # noqa: F821
install(c, root)
