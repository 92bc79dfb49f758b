"""What a judgement depends on, as SHA-256 digests: code, environment, release, and the key made of all of them."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import sysconfig
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["canonical", "code_digest", "digest", "environment_digest", "folder_digest", "json_digest"]

SKIPPED = ("__pycache__", ".ipynb_checkpoints")


def digest(data: bytes) -> str:
    """The SHA-256 of some bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def canonical(value: Any) -> bytes:
    """The one way in which a value is written as JSON before it is digested.

    Raises: ValueError for NaN and infinities, which JSON does not have.

    >>> canonical({"b": 1, "a": [2.0]})
    b'{"a":[2.0],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def json_digest(value: Any) -> str:
    """The SHA-256 of a value's canonical JSON."""
    return digest(canonical(value))


def folder_digest(folder: Path) -> str:
    """The SHA-256 over the names and bytes of a folder's files; caches and hidden files left out."""
    return json_digest(_files(folder.rglob("*"), folder))


def _files(paths: Iterable[Path], top: Path) -> Mapping[str, str]:
    found = {}
    for path in sorted(paths):
        parts = path.relative_to(top).parts
        if path.is_file() and not any(part in SKIPPED or part.startswith(".") for part in parts):
            found["/".join(parts)] = digest(path.read_bytes())
    return found


@functools.cache
def code_digest() -> str:
    """The SHA-256 over this package and coursekit as they are installed here: tests, hidden tests and data included."""
    import coursekit

    folders = (Path(__file__).parent, Path(coursekit.__file__).parent)
    return json_digest([folder_digest(folder) for folder in folders])


@functools.cache
def environment_digest() -> str:
    """The SHA-256 over Python's version and every installed package's: what the lock says, as it really is."""
    # Not sys.path: setuptools puts its own copies of packages there in whatever process imports it.
    folders = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    found = metadata.distributions(path=folders)
    packages = {(each.metadata["Name"] or "").lower(): each.version for each in found}
    return json_digest([platform.python_version(), packages])
