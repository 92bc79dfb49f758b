"""A judgement to be made, and one that was: bytes, so that both can cross a pipe or a network without pickle."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import json
import os
import platform
import tempfile
import types
import typing
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import nbformat

from autograde.digests import code_digest, environment_digest
from autograde.execute import Receipt, execute
from autograde.kernel import KernelStartError
from autograde.limits import Limits
from autograde.sandbox import available

__all__ = ["Job", "Judgement", "run_job"]

STARTS = 2  # how often a kernel that does not come up is tried


@dataclass(frozen=True)
class Job:
    """One notebook to be judged; the same job gives the same marks wherever it is run.

    Args: key: of all that the judgement depends on. source: the sanitised notebook. assets: files beside it, by
          relative path. sandbox: False runs it without walls. code, environment: the digests that a worker must have.
    """

    key: str
    source: str
    assets: Mapping[str, bytes]
    sandbox: bool
    limits: Limits
    seed: int
    require_check: bool
    code: str
    environment: str

    def to_bytes(self) -> bytes:
        """The job as JSON."""
        assets = {path: base64.b64encode(data).decode("ascii") for path, data in self.assets.items()}
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return json.dumps(values | {"assets": assets, "limits": dataclasses.asdict(self.limits)}).encode(
            "ascii"
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Job:
        """The job that `to_bytes` wrote."""
        values = json.loads(data)
        values["assets"] = {path: base64.b64decode(text) for path, text in values["assets"].items()}
        values["limits"] = Limits(**values["limits"])
        return cls(**values)


@dataclass(frozen=True)
class Judgement:
    """What came of a job.

    Args: key: the job's. executed: the notebook with outputs, or None after a failure. receipt: how it was run.
          failure: why there is no judgement; the machine's or the harness's fault, never the student's. worker: who
          made it. id: tells this one from every other judgement of the same key.
    """

    key: str
    executed: str | None
    receipt: Receipt | None
    failure: str | None = None
    worker: str = ""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def to_bytes(self) -> bytes:
        """The judgement as JSON."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        receipt = None if self.receipt is None else dataclasses.asdict(self.receipt)
        return json.dumps(values | {"receipt": receipt}).encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> Judgement:
        """The judgement that `to_bytes` wrote.

        Raises: ValueError, KeyError or TypeError for anything else.
        """
        values = json.loads(data)
        if values["receipt"] is not None:
            values["receipt"] = _rebuilt(Receipt, values["receipt"])
        return cls(**values)


def run_job(data: bytes) -> bytes:
    """Judges one job, in whatever process this is. Never raises: what goes wrong is the judgement's `failure`."""
    job = Job.from_bytes(data)
    worker = f"{platform.node()}:{os.getpid()}"
    try:
        executed, receipt = _run(job)
    except Exception as error:
        return Judgement(job.key, None, None, f"{type(error).__name__}: {error}", worker).to_bytes()
    return Judgement(job.key, nbformat.writes(executed), receipt, None, worker).to_bytes()


def _run(job: Job) -> tuple[nbformat.NotebookNode, Receipt]:
    if (job.code, job.environment) != (code_digest(), environment_digest()):
        what = "code is" if job.code != code_digest() else "packages are"
        raise RuntimeError(f"this worker's {what} not the grading run's: install the same on both")
    found = available() if job.sandbox else None
    if found is not None and not found.ok:
        raise RuntimeError(f"this worker has no sandbox: {found}")
    with _written(job.assets) as folder:
        for attempt in range(1, STARTS + 1):
            with contextlib.suppress(*([KernelStartError] if attempt < STARTS else [])):
                return execute(
                    job.source.encode("utf-8"),
                    mode="none" if found is None else found.mode,
                    assets=folder,
                    limits=job.limits,
                    seed=job.seed,
                    require_check=job.require_check,
                )
    raise AssertionError("the last attempt either returns or raises")


@contextlib.contextmanager
def _written(assets: Mapping[str, bytes]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="assets-") as name:
        for path, data in assets.items():
            if ".." in PurePosixPath(path).parts or PurePosixPath(path).is_absolute():
                raise ValueError(f"an asset would lie outside its folder: {path!r}")
            place = Path(name, path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        yield Path(name)


@functools.lru_cache(maxsize=64)
def _hints(kind: Any) -> Mapping[str, Any]:
    return typing.get_type_hints(kind)


def _rebuilt(kind: Any, value: Any) -> Any:
    """A dataclass, and the dataclasses in it, from what `asdict` and JSON made of it."""
    arguments = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        types_by_name = _hints(typing.cast(Any, kind))
        return typing.cast(Any, kind)(**{
            name: _rebuilt(types_by_name[name], part) for name, part in value.items()
        })
    if origin is tuple and isinstance(value, list):
        every = arguments if Ellipsis not in arguments else arguments[:1] * len(value)
        return tuple(_rebuilt(part, item) for part, item in zip(every, value, strict=True))
    if origin in (typing.Union, types.UnionType):
        dataclass_part = next((part for part in arguments if dataclasses.is_dataclass(part)), None)
        wanted = dataclass_part if isinstance(value, Mapping) and dataclass_part else None
        wanted = wanted or next((part for part in arguments if typing.get_origin(part) is tuple), None)
        return _rebuilt(wanted, value) if wanted is not None else value
    return value
