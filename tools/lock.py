"""Writes requirements.lock: the installed version of everything pyproject.toml asks for, directly or not.

Run by `make lock`, in an environment whose tests pass. Packages that exist on some systems only carry the marker
under which the package that needs them asks for them.
"""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
HEADER = """\
# Every version the course was tested with (Python 3.11). Written by `make lock`; do not edit.
"""


def direct_requirements(pyproject: Path = ROOT / "pyproject.toml") -> list[Requirement]:
    """What pyproject.toml asks for: dependencies and every extra."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    texts = list(project["dependencies"])
    for extra in project.get("optional-dependencies", {}).values():
        texts += extra
    return [Requirement(text) for text in texts]


def applies(requirement: Requirement, extras: set[str]) -> bool:
    """Whether a requirement counts on this machine when its package was asked for with these extras."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""})


def platform_marker(requirement: Requirement) -> str:
    """The marker of a requirement if it names a system or processor, else an empty string."""
    text = str(requirement.marker or "")
    if "extra" in text or not any(word in text for word in ("sys_platform", "platform_", "os_name")):
        return ""
    return text


def combined(outer: str, own: str) -> str:
    """The condition under which a package is needed by one that is itself needed under a condition."""
    if not outer or not own or outer == own:
        return outer or own
    return f"({outer}) and ({own})"


def closure(roots: list[Requirement]) -> dict[str, tuple[str, set[str]]]:
    """Name -> (version, markers) of the roots and everything they need; an empty marker means everywhere.

    Raises: PackageNotFoundError if something needed is not installed.
    """
    found: dict[str, tuple[str, set[str]]] = {}
    seen: set[tuple[str, frozenset[str], str]] = set()
    queue = [(root, "") for root in roots]
    while queue:
        requirement, outer = queue.pop()
        name, marker = canonicalize_name(requirement.name), combined(outer, platform_marker(requirement))
        key = (name, frozenset(requirement.extras), marker)
        if key in seen:
            continue
        seen.add(key)
        distribution = metadata.distribution(name)
        found.setdefault(name, (distribution.version, set()))[1].add(marker)
        for text in distribution.requires or []:
            child = Requirement(text)
            if applies(child, set(requirement.extras)):
                queue.append((child, marker))
    return found


def lock_text(found: dict[str, tuple[str, set[str]]]) -> str:
    """The text of requirements.lock, one `name==version ; marker` a line, in alphabetical order."""
    lines = []
    for name in sorted(found):
        version, markers = found[name]
        condition = "" if "" in markers else " or ".join(sorted(f"({marker})" for marker in markers))
        lines.append(f"{name}=={version}" + (f" ; {Marker(condition)}" if condition else ""))
    return HEADER + "\n".join(lines) + "\n"


if __name__ == "__main__":
    LOCK.write_text(lock_text(closure(direct_requirements())), encoding="utf-8", newline="\n")
    print(f"wrote {LOCK.name}")
