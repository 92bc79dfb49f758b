"""environment.yml, pyproject.toml, requirements.lock and the Makefile say the same about what the course needs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from jupytext.config import load_jupytext_configuration_file
from jupytext.paired_paths import paired_paths
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tools.lock import closure, direct_requirements

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# The libraries the course was asked to be built on.
ASKED_FOR = (
    "jupyterlab",
    "nbgrader",
    "torch",
    "torchvision",
    "matplotlib",
    "seaborn",
    "tensorly",
    "pytest",
    "nbval",
)


def lock_lines() -> list[str]:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def locked() -> dict[str, Requirement]:
    return {canonicalize_name(each.name): each for each in map(Requirement, lock_lines())}


def test_every_locked_package_has_exactly_one_version_and_no_address(locked):
    assert len(locked) == len(lock_lines())
    for requirement in locked.values():
        assert requirement.url is None
        assert [each.operator for each in requirement.specifier] == ["=="]


@pytest.mark.parametrize("requirement", direct_requirements(), ids=lambda each: each.name)
def test_the_lock_has_a_version_that_pyproject_allows(requirement, locked):
    (pin,) = locked[canonicalize_name(requirement.name)].specifier
    assert requirement.specifier.contains(pin.version)


def test_every_locked_package_supports_each_python_3_11(locked):
    """Debian 12 has 3.11.2, for which pip would not find what wants 3.11.5."""
    wants = {
        name: metadata.metadata(name).get("Requires-Python")
        for name in locked.keys() & {canonicalize_name(each.name) for each in metadata.distributions()}
    }
    assert [name for name, text in wants.items() if text and not SpecifierSet(text).contains("3.11.0")] == []


def test_the_lock_has_everything_the_packages_need_in_the_version_installed(locked):
    installed = {name: f"=={version}" for name, (version, _) in closure(direct_requirements()).items()}
    assert installed == {name: str(locked[name].specifier) for name in installed if name in locked}


@pytest.mark.parametrize("name", ASKED_FOR)
def test_a_plain_install_brings_the_package(name):
    assert name in {Requirement(text).name for text in PROJECT["dependencies"]}


def test_conda_adds_nothing_of_its_own():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, *others = environment["dependencies"]
    assert environment["name"] == "model-optimization"
    assert others == ["pip", {"pip": ["-r requirements.lock", "-e ."]}]
    version = python.removeprefix("python=")
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{version}.0")


def test_this_python_is_one_the_course_is_for():
    assert SpecifierSet(PROJECT["requires-python"]).contains(".".join(map(str, sys.version_info[:3])))


def test_make_alone_lists_every_target():
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "lab", "demo", "test", "build", "check", "doctor", "help"):
        assert f"make {target} " in listed


def test_make_says_what_is_missing_where_there_is_no_python_3_11(tmp_path):
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run(
        ["make", "setup", "PYTHON="], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "No Python 3.11 here" in done.stdout
    assert not (tmp_path / ".venv").exists()


def tracked_texts() -> list[Path]:
    """The files git knows or would add, if this is a clone, that are text."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    paths = [ROOT / line for line in listed.stdout.splitlines()]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8000]]


def test_every_text_file_is_utf8_with_unix_line_ends_and_names_no_folder_of_this_machine():
    paths = tracked_texts()
    if not paths:
        pytest.skip("not a git clone")
    for path in paths:
        text = path.read_bytes().decode("utf-8")
        assert "\r\n" not in text, f"{path} has Windows line ends"
        assert str(ROOT) not in text, f"{path} names this machine's folder of the course"


def test_jupyterlab_saves_a_lesson_as_text_and_as_solution():
    config = load_jupytext_configuration_file(str(ROOT / "jupytext.toml"))
    text = ROOT / "lessons" / "week1" / "01-x.py"
    pair = [path for path, _ in paired_paths(str(text), "py:percent", config.default_formats(str(text)))]
    assert [Path(path) for path in pair] == [text, ROOT / "solutions" / "week1" / "01-x.ipynb"]
