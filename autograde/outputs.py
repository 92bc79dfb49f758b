"""A cell's outputs: collected from a kernel's messages under a cap, and only in forms that are safe to show."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from typing import Any

from nbformat.notebooknode import NotebookNode
from nbformat.v4 import new_output

from autograde.sanitize import safe_html

__all__ = ["CHECK_MIME", "OutputBuffer", "error_output", "safe_data"]

CHECK_MIME = "application/vnd.coursekit.check+json"
IMAGES = ("image/png", "image/jpeg")
TRUNCATED = "\n… the rest of this cell's output was cut off here.\n"


def error_output(name: str, message: str) -> NotebookNode:
    """An error as a cell's output, in words for the student and without a traceback."""
    return new_output("error", ename=name, evalue=message, traceback=[f"{name}: {message}"])


def safe_data(data: Any, clean: Callable[[str], str] | None = None) -> dict[str, Any]:
    """The parts of a MIME bundle that a page can show without running anything.

    Args:    data: as it came from the kernel, which may be anything at all. clean: applied to every text.
    Returns: text, cleaned HTML, PNG and JPEG that are truly base64, and the check's result; all else is left out.
    """
    if not isinstance(data, Mapping):
        return {}
    clean = clean or clean_text
    kept: dict[str, Any] = {}
    for mime, value in data.items():
        if mime == "text/plain" and isinstance(value, str):
            kept[mime] = clean(value)
        elif mime == "text/html" and isinstance(value, str):
            kept[mime] = safe_html(clean(value))
        elif mime in IMAGES and isinstance(value, str) and _is_base64(value):
            kept[mime] = value
        elif mime == CHECK_MIME and isinstance(value, dict):
            kept[mime] = json.loads(clean(json.dumps(value)))
    return kept


def clean_text(text: str) -> str:
    """The text without NUL characters and halves of surrogate pairs, which no file could hold."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def _is_base64(value: str) -> bool:
    try:
        base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


class OutputBuffer:
    """The outputs of one cell while it runs.

    Args: limit_bytes: what is kept at most of text, and again of all else; `truncated` says whether there was more.
          replace: paths of this machine, and what is shown in their place.
    """

    def __init__(self, limit_bytes: int, replace: Mapping[str, str] | None = None) -> None:
        self.limit_bytes = limit_bytes
        self._replace = dict(replace or {})
        self.truncated = False
        self._sizes = {"stream": 0, "rich": 0}
        self._items: list[dict[str, Any]] = []
        self._clear_next = False

    def add(self, kind: str, content: Mapping[str, Any], size_bytes: int) -> None:
        """Takes one message of the kernel; kinds that are not outputs, and malformed ones, are ignored."""
        if kind == "clear_output":
            self._clear_next = bool(content.get("wait"))
            if not self._clear_next:
                self._items.clear()
            return
        item = self._item(kind, content)
        if item is None:
            return
        sort = "stream" if kind == "stream" else "rich"  # much printing must not push out a check's report
        if self._sizes[sort] + size_bytes > self.limit_bytes:
            self.truncated = True
            if kind != "error":
                return
        self._sizes[sort] += size_bytes
        if self._clear_next:
            self._items.clear()
            self._clear_next = False
        self._place(item)

    def _item(self, kind: str, content: Mapping[str, Any]) -> dict[str, Any] | None:
        if kind == "stream" and content.get("name") in ("stdout", "stderr"):
            return {"kind": kind, "name": content["name"], "text": [str(content.get("text", ""))]}
        if kind == "error":
            lines = content.get("traceback")
            lines = [str(line)[:20_000] for line in lines[:200]] if isinstance(lines, list) else []
            name, value = str(content.get("ename", ""))[:200], str(content.get("evalue", ""))[:2000]
            return {"kind": kind, "ename": name, "evalue": value, "traceback": lines or [f"{name}: {value}"]}
        if kind in ("display_data", "execute_result", "update_display_data"):
            transient = content.get("transient")
            identity = transient.get("display_id") if isinstance(transient, Mapping) else None
            return {"kind": kind, "data": safe_data(content.get("data"), self._clean), "id": identity}
        return None

    def _place(self, item: dict[str, Any]) -> None:
        last = self._items[-1] if self._items else None
        if item["kind"] == "stream" and last and last["kind"] == "stream" and last["name"] == item["name"]:
            last["text"] += item["text"]
        elif item["kind"] == "update_display_data":
            for shown in self._items:
                if item["id"] and shown.get("id") == item["id"]:
                    shown["data"] = item["data"]
        else:
            self._items.append(item)

    def nodes(self) -> list[NotebookNode]:
        """The outputs as a notebook holds them."""
        made = [self._node(item) for item in self._items]
        if self.truncated:
            made.append(new_output("stream", name="stdout", text=TRUNCATED))
        return made

    def _clean(self, text: str) -> str:
        for path, shown in self._replace.items():
            text = text.replace(path, shown)
        return clean_text(text)

    def _node(self, item: dict[str, Any]) -> NotebookNode:
        if item["kind"] == "stream":
            return new_output(
                "stream", name=item["name"], text=_overwritten(self._clean("".join(item["text"])))
            )
        if item["kind"] == "error":
            fields = {name: self._clean(item[name]) for name in ("ename", "evalue")}
            return new_output("error", **fields, traceback=[self._clean(line) for line in item["traceback"]])
        return new_output(item["kind"], data=item["data"])


def _overwritten(text: str) -> str:
    """The text as a terminal would leave it: after a carriage return a line is written over."""
    if "\r" not in text:
        return text
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines)
