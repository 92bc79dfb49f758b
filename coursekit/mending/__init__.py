"""Putting a notebook back into its release's shape without losing an answer: for intake, and for students before it."""

from coursekit.mending.findings import CODES, Finding
from coursekit.mending.notebookfile import BrokenNotebook, RawCell, RawNotebook, parse
from coursekit.mending.repair import repair

__all__ = ["CODES", "BrokenNotebook", "Finding", "RawCell", "RawNotebook", "parse", "repair"]
