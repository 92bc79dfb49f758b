"""The student's functions as a test sees them: attributes of one object, called on copies."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from coursekit import fixtures
from coursekit.exercises.spec import Fixture

__all__ = [
    "InputChangedError",
    "LocalStudent",
    "NotAttemptedError",
    "StudentError",
    "TooSlowError",
    "changed",
]

CALL_SECONDS = 10.0


class NotAttemptedError(Exception):
    """The function does not exist yet, or still raises NotImplementedError."""


class StudentError(Exception):
    """The student's function raised; the original exception is the cause."""

    def __init__(self, function: str, error: BaseException) -> None:
        super().__init__(f"{function} raised {type(error).__name__}: {error}")
        self.error = error


class TooSlowError(Exception):
    """A call did not end within its time."""


class InputChangedError(AssertionError):
    """The student's function changed one of its arguments in place."""


class LocalStudent:
    """The functions of one namespace, such as a notebook's globals.

    `student.quantize(x, 0.1)` calls the function named quantize on copies of the tensors.

    Args: namespace: names to functions.
          seconds: the longest one call may take, where the system can interrupt one.
    """

    def __init__(self, namespace: Mapping[str, Any], seconds: float = CALL_SECONDS) -> None:
        self._namespace, self._seconds = namespace, seconds

    def make(self, name: str, *args: Any) -> Any:
        """An object of `coursekit.fixtures`, where the student's functions are: to be passed to them, or asked."""
        return fixtures.make(name, *args)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = self._namespace.get(name)
        if function is None:
            raise NotAttemptedError(f"there is no function named {name} yet: run its cell first")
        if not callable(function):
            raise StudentError(name, TypeError(f"{name} is a {type(function).__name__}, not a function"))

        def call(*args: Any, **kwargs: Any) -> Any:
            with _time_limit(name, self._seconds):
                return _call(name, function, args, kwargs)

        return call


def _call(name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    given = [_copy(a) for a in args]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a warning is no mistake, and on stderr it would cost the mark
            result = function(*given, **kwargs)
    except TooSlowError:
        raise
    except NotImplementedError as error:
        raise NotAttemptedError(f"{name} is not written yet") from error
    except (Exception, SystemExit) as error:
        raise StudentError(name, error) from error
    for position, (before, after) in enumerate(zip(args, given, strict=True), start=1):
        if not _unchanged(before, after):
            raise changed(name, position)
    return result


@contextmanager
def _time_limit(name: str, seconds: float) -> Iterator[None]:
    """Raises TooSlowError in the block when the time is up; no limit off the main thread or on Windows."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise TooSlowError(f"{name} did not end within {seconds:g} seconds: does a loop never stop?")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def changed(name: str, position: int) -> InputChangedError:
    """The error for a function that changed its argument number `position` in place."""
    return InputChangedError(
        f"{name} changed its argument number {position} in place; work on a new tensor "
        "(methods that end in _ and assignments to slices change the tensor they are called on)"
    )


def _copy(value: Any) -> Any:
    """A copy that keeps strides, so that a non-contiguous tensor stays one; the object a fixture stands for."""
    if isinstance(value, Fixture):
        return fixtures.make(value.name, *map(_copy, value.args))
    if type(value) is dict:
        return {key: _copy(each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_copy, value))
    return value.detach().clone() if isinstance(value, Tensor) else value


def _unchanged(before: Any, after: Any) -> bool:
    """Whether all tensors of an argument, also those in its dicts, lists and tuples, are what they were."""
    if isinstance(before, Tensor):
        return _same_tensor(before, after)
    if type(before) is dict:
        return before.keys() == after.keys() and all(_unchanged(before[key], after[key]) for key in before)
    if type(before) in (list, tuple):
        return len(before) == len(after) and all(map(_unchanged, before, after))
    return True


def _same_tensor(a: Tensor, b: Any) -> bool:
    return (
        isinstance(b, Tensor)
        and a.shape == b.shape
        and a.dtype == b.dtype
        and bool(torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)))
    )
