"""`coursekit doctor`: what this machine has of what the course needs, and what to do about the rest.

Every check imports what it looks at itself, so that the doctor also runs where nothing else does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

__all__ = ["Finding", "examine", "exit_code", "table"]

ROOT = Path(__file__).resolve().parents[1]
RENEW = "rm -f .venv/.installed && make setup"
GIB = 1024**3


@dataclass(frozen=True)
class Finding:
    """One requirement: `ok`, `warn` (works without) or `fail`; what was found; what mends it."""

    status: Literal["ok", "warn", "fail"]
    what: str
    found: str
    mend: str = ""


def check_python() -> Finding:
    """Python is of the version whose outputs are saved in the lessons."""
    version = sys.version.split()[0]
    if sys.version_info[:2] == (3, 11):
        return Finding("ok", "Python", version)
    return Finding(
        "fail", "Python", f"{version}, the course needs 3.11", "install Python 3.11, then make setup"
    )


def pinned(lock: Path) -> dict[str, str]:
    """Package -> version of the lines of a lock file that apply to this machine."""
    from packaging.requirements import Requirement

    lines = (line.partition("#")[0].strip() for line in lock.read_text(encoding="utf-8").splitlines())
    requirements = [Requirement(line) for line in lines if line]
    wanted = [each for each in requirements if each.marker is None or each.marker.evaluate()]
    return {each.name: str(each.specifier).removeprefix("==") for each in wanted}


def check_packages(lock: Path = ROOT / "requirements.lock") -> Finding:
    """Every package has the version the lock pins."""
    if not lock.exists():
        return Finding(
            "warn", "packages", f"no {lock.name} to compare with", "work in a clone of the repository"
        )
    wrong = []
    wanted = pinned(lock)
    for name, version in wanted.items():
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed = "not installed"
        if installed != version:
            wrong.append(f"{name} is {installed}, not {version}")
    if not wrong:
        return Finding("ok", "packages", f"all {len(wanted)} as pinned in {lock.name}")
    more = f"; and {len(wrong) - 4} more" if len(wrong) > 4 else ""
    return Finding("fail", "packages", "; ".join(wrong[:4]) + more, RENEW)


def check_kernel() -> Finding:
    """The kernel called python3 is this Python."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    mend = f"{sys.executable} -m ipykernel install --sys-prefix"
    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        return Finding("fail", "kernel python3", "not registered", mend)
    program = spec.argv[0]
    ours = os.path.dirname(sys.executable)
    if program in ("python", "python3", "python3.11") or os.path.dirname(program) == ours:
        return Finding("ok", "kernel python3", "runs this Python")
    return Finding("fail", "kernel python3", f"runs {program}, not this Python", mend)


def check_alembic() -> Finding:
    """nbgrader finds the program alembic, which it starts by name."""
    found = shutil.which("alembic")
    if found:
        return Finding("ok", "nbgrader's alembic", found)
    return Finding("fail", "nbgrader's alembic", "not on PATH", "call make, or `. .venv/bin/activate` first")


def check_sandbox() -> Finding:
    """bubblewrap can shut in a student's code."""
    what = "bubblewrap"
    if not sys.platform.startswith("linux"):
        return Finding("fail", what, f"needs Linux, this is {sys.platform}", "grade on Linux, or in WSL 2")
    program = shutil.which("bwrap")
    if program is None:
        return Finding("fail", what, "not installed", "sudo apt-get install bubblewrap")
    command = [program, "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--dev", "/dev", "true"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=30, check=False)
    if done.returncode == 0:
        return Finding("ok", what, "shuts in a process, with user namespaces")
    said = (done.stderr.strip().splitlines() or ["no message"])[-1]
    mend = "allow user namespaces: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu 23.10 on), "
    return Finding(
        "fail", what, f"does not start: {said}", mend + "or sudo sysctl user.max_user_namespaces=10000"
    )


def check_data() -> Finding:
    """Fashion-MNIST is there and can be read."""
    from coursekit.data import fashion_mnist, find_fashion_mnist

    folder = find_fashion_mnist()
    data = fashion_mnist("test")
    if folder is None:
        mend = "for all 70,000: sudo apt-get install dataset-fashion-mnist (a lesson works without)"
        return Finding("warn", "Fashion-MNIST", f"the shipped subset, {len(data):,} test images", mend)
    return Finding("ok", "Fashion-MNIST", f"all 70,000 images, in {folder}")


def check_zoo() -> Finding:
    """The trained networks load and answer."""
    import torch

    from coursekit import zoo

    for name in zoo.available():
        logits = zoo.load(name)(torch.zeros(1, 1, 28, 28))
        if not logits.isfinite().all():
            return Finding(
                "fail", "trained networks", f"{name} answers {logits.tolist()}", "git checkout coursekit"
            )
    return Finding("ok", "trained networks", ", ".join(zoo.available()))


def check_writing(folder: Path = ROOT) -> Finding:
    """Files can be written where students' copies and the classroom go."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        mend = f"make {folder} writable for you, or clone the repository where you may write"
        return Finding("fail", "write access", f"cannot write to {folder}: {error.strerror}", mend)
    return Finding("ok", "write access", str(folder))


def check_room(folder: Path = ROOT) -> Finding:
    """There is disk and memory enough to run a lesson."""
    import psutil

    disk, memory = shutil.disk_usage(folder).free / GIB, psutil.virtual_memory().available / GIB
    found = f"{memory:.1f} GB of memory and {disk:.1f} GB of disk free"
    if memory < 2 or disk < 1:
        return Finding(
            "fail", "room", found, "close other programs or delete files: a lesson takes up to 2 GB and 1 GB"
        )
    return Finding("ok", "room", found)


def check_browser() -> Finding:
    """A browser for the test that opens a lesson in a real JupyterLab."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found:
        return Finding("ok", "chromium", found)
    return Finding("warn", "chromium", "not installed: one test is skipped", "sudo apt-get install chromium")


FOR_EVERYBODY: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_packages,
    check_kernel,
    check_data,
    check_zoo,
    check_writing,
    check_room,
)
FOR_INSTRUCTORS: tuple[Callable[[], Finding], ...] = (check_alembic, check_sandbox, check_browser)


def _run(check: Callable[[], Finding]) -> Finding:
    """What a check found; a check that itself fails is a finding too."""
    what = check.__name__.removeprefix("check_")
    try:
        return check()
    except ImportError as error:
        return Finding("fail", what, f"cannot import {error.name}", RENEW)
    except Exception as error:  # whatever is broken on this machine, the other checks still count
        return Finding("fail", what, f"{type(error).__name__}: {error}", RENEW)


def examine(*, instructor: bool = True) -> list[Finding]:
    """The findings of all checks, those that only grading and the tests need included if `instructor`."""
    return [_run(check) for check in FOR_EVERYBODY + (FOR_INSTRUCTORS if instructor else ())]


def table(findings: list[Finding]) -> str:
    """The findings as text: a line each, the mend below what needs one, a summary at the end."""
    width = max(len(each.what) for each in findings)
    lines = []
    for each in findings:
        lines.append(f"{each.status.upper():<4}  {each.what:<{width}}  {each.found}")
        if each.status != "ok" and each.mend:
            lines.append(f"{'':<4}  {'':<{width}}  mend: {each.mend}")
    count = {status: sum(each.status == status for each in findings) for status in ("ok", "warn", "fail")}
    lines.append(f"\n{count['ok']} OK, {count['warn']} WARN (works without), {count['fail']} FAIL")
    return "\n".join(lines)


def exit_code(findings: list[Finding]) -> int:
    """1 if any check failed, else 0."""
    return int(any(each.status == "fail" for each in findings))
