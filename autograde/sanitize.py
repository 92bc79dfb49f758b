"""HTML from submissions, made inert: nothing that runs, loads or submits anything is left."""

from __future__ import annotations

import re
from typing import Any

import bleach
from bleach.css_sanitizer import CSSSanitizer
from jinja2 import pass_context
from nbconvert.filters import markdown2html_mistune

__all__ = ["safe_html", "safe_markdown"]

# fmt: off
TAGS = frozenset((
    "a", "abbr", "b", "blockquote", "br", "caption", "code", "col", "colgroup", "dd", "del", "details",
    "div", "dl", "dt", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "kbd", "li", "mark",
    "ol", "p", "pre", "s", "small", "span", "strong", "sub", "summary", "sup", "table", "tbody", "td",
    "tfoot", "th", "thead", "tr", "u", "ul", "var",
))
# fmt: on
PLAIN = {"class", "style", "title", "colspan", "rowspan", "scope", "align", "open", "lang", "dir", "start"}
# fmt: off
STYLES = frozenset((
    "background", "background-color", "border", "border-bottom", "border-collapse", "border-color",
    "border-left", "border-radius", "border-right", "border-spacing", "border-style", "border-top",
    "border-width", "color", "display", "font-family", "font-size", "font-style",
    "font-variant-numeric", "font-weight", "height", "line-height", "list-style", "list-style-type", "margin",
    "margin-bottom", "margin-left", "margin-right", "margin-top", "max-width", "min-width", "opacity",
    "overflow", "overflow-wrap", "overflow-x", "padding", "padding-bottom", "padding-left",
    "padding-right", "padding-top", "text-align", "text-decoration", "vertical-align", "white-space", "width",
    "word-break", "word-wrap",
))
# fmt: on
LIMIT_CHARACTERS = 300_000
# bleach drops these tags but would leave what stands between them as text.
HIDDEN = re.compile(
    r"<(script|style|iframe|object|svg|math|template|noscript)\b.*?(</\1\s*>|\Z)", re.I | re.S
)
PICTURE = re.compile(
    r"(data:image/(png|jpeg|gif);base64,[A-Za-z0-9+/=\s]*|(?!.*\.\.)[\w][\w./ -]*\.(png|jpe?g|gif|svg))\Z",
    re.I,
)


def safe_html(text: object) -> str:
    """The HTML with only tags, attributes and styles that show text, tables and pictures from this page's own folder.

    Args:    text: HTML of unknown origin; what is longer than 300,000 characters is shown as a note instead.
    Returns: HTML that runs no script and fetches nothing, whatever it was.
    """
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    if len(text) > LIMIT_CHARACTERS:
        return f"<p>This output was left out: it is {len(text):,} characters of HTML.</p>"
    # A url(...) in a style would fetch something; no style here needs one.
    return bleach.clean(
        HIDDEN.sub("", text),
        tags=TAGS,
        attributes=_allowed,
        protocols={"http", "https", "mailto", "data"},
        css_sanitizer=_Styles(allowed_css_properties=STYLES),
        strip=True,
    )


class _Styles(CSSSanitizer):
    def sanitize_css(self, style: str) -> str:
        return "" if "url" in style.lower() or "\\" in style else str(super().sanitize_css(style))


def _allowed(tag: str, name: str, value: str) -> bool:
    if tag == "img":
        return (name == "src" and bool(PICTURE.match(value))) or name in {"alt", "width", "height"}
    if tag == "a" and name == "href":
        return value.strip().lower().startswith(("http://", "https://", "#"))
    return name in PLAIN


@pass_context
def safe_markdown(context: Any, source: str) -> str:
    """nbconvert's `markdown2html` for pages about submissions: rendered first, then made inert.

    Attached pictures are put inline, as nbconvert does it.
    """
    cell = context.get("cell", {})
    for name, bundle in (cell.get("attachments") or {}).items():
        for mime, data in bundle.items():
            source = source.replace(f"attachment:{name}", f"data:{mime};base64,{data}")
    return safe_html(markdown2html_mistune(source))
