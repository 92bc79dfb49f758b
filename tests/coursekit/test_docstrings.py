"""Every example in coursekit's docstrings runs, and every public name exists and is explained."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import coursekit

MODULES = sorted(
    each.name
    for each in pkgutil.walk_packages(coursekit.__path__, "coursekit.")
    if "__main__" not in each.name
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_the_docstrings_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_public_names_exist_and_have_a_docstring(name):
    module = importlib.import_module(name)
    for each in getattr(module, "__all__", []):
        value = getattr(module, each)
        if inspect.isclass(value) or inspect.isroutine(value):
            assert (value.__doc__ or "").strip(), f"{name}.{each} has no docstring"
