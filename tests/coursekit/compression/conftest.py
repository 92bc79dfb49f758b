"""Files that are whole, for the tests that damage them."""

from __future__ import annotations

from pathlib import Path

import pytest

from coursekit import zoo
from coursekit.compression import save
from tests.coursekit.compression.madefiles import File, files


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, File]:
    """Files that hold every form of a tensor, by name."""
    return files(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of one network."""
    path = tmp_path_factory.mktemp("one") / "net"
    save(zoo.load("lenet300"), path)
    return path
