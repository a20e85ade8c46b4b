"""HTML that is safe by construction: what is not `Html` already is escaped on its way into the page.

Class names, file names and messages come from other people's folders, so no section writes markup by hand.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

NBSP = "\u00a0"
DASH = "–"
_VOID = {"img", "meta", "link", "br"}
_THUMBNAIL = re.compile(r"data:image/(?:jpeg|png|webp);base64,[A-Za-z0-9+/]+={0,2}")


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def clean(value: object) -> str:
    """Text that UTF-8 can hold: a file name's undecodable bytes become the replacement sign."""
    return str(value).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def escape(value: object) -> Html:
    """`value` as markup: `Html` as it is, None as nothing, anything else escaped.

    >>> escape("<b>")
    '&lt;b&gt;'
    """
    if isinstance(value, Html):
        return value
    return Html("" if value is None else html.escape(clean(value)))


def tag(element: str, *children: object, **attributes: object) -> Html:
    """One element. Attributes: `class_` is class, `aria_label` aria-label; None and False leave one out.

    >>> tag("p", "a < b", tag("b", "!"), class_="lead", id=None)
    '<p class="lead">a &lt; b<b>!</b></p>'
    """
    opening = element
    for key, value in attributes.items():
        if value is not None and value is not False:
            name = key.rstrip("_").replace("_", "-")
            opening += f" {name}" if value is True else f' {name}="{html.escape(clean(value))}"'
    if element in _VOID:
        return Html(f"<{opening}>")
    return Html(f"<{opening}>{join(children)}</{element}>")


def join(parts: Iterable[object]) -> Html:
    return Html("".join(escape(part) for part in parts))


def name(value: object) -> Html:
    """A foreign name, kept from turning the direction of the text around it."""
    return tag("bdi", value)


def finite(value: object) -> float | None:
    """`value` as a float, or None when it is absent, not a number or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def percent(value: object, digits: int = 1) -> str:
    """A share in [0, 1] for people; only a true 1 reads 100 %.

    >>> percent(0.931), percent(0.99999), percent(None)
    ('93.1\\xa0%', '>99.9\\xa0%', '–')
    """
    share = finite(value)
    if share is None:
        return DASH
    text = f"{100 * share:.{digits}f}"
    if share < 1 and float(text) == 100:
        text = f">{100 - 10**-digits:.{digits}f}"
    return f"{text}{NBSP}%"


def number(value: object) -> str:
    """A number in few digits, a word as it is, and a dash for nothing.

    >>> number(12), number(0.034567), number(12345.678), number(None)
    ('12', '0.0346', '12346', '–')
    """
    if value is None:
        return DASH
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def bar(share: object, interval: Sequence[float] | None = None, tone: str = "accent") -> Html:
    """A horizontal bar for a share in [0, 1], with a whisker over `interval`; beside a number, so hidden
    from screen readers."""
    width = min(1.0, max(0.0, finite(share) or 0.0))
    whisker = None
    if interval:
        low, high = (min(1.0, max(0.0, end)) for end in interval)
        whisker = tag("i", class_="whisker", style=f"left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%")
    fill = tag("i", class_=f"fill {tone}", style=f"width:{100 * width:.2f}%")
    return tag("span", fill, whisker, class_="bar", aria_hidden="true")


def measure(share: object, interval: Sequence[float] | None = None, tone: str = "accent") -> Html:
    """A percentage with its bar, for a table cell."""
    figure = tag("span", percent(share), class_="figure")
    return tag("span", figure, bar(share, interval, tone), class_="measure")


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]], numeric: int = 0) -> Html:
    """A table in a container of its own that scrolls; the first column heads its row.

    The last `numeric` columns are set flush right.
    """
    first = len(head) - numeric
    style = ["num" if column >= first else None for column in range(len(head))]
    titles = [tag("th", title, scope="col", class_=style[i]) for i, title in enumerate(head)]
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row", class_=style[0]),
            *[tag("td", cell, class_=style[i]) for i, cell in enumerate(row[1:], 1)],
        )
        for row in rows
    ]
    inner = tag(
        "table",
        tag("caption", caption, class_="unseen"),
        tag("thead", tag("tr", *titles)),
        tag("tbody", *body),
    )
    return tag("div", inner, class_="scroll", role="region", aria_label=caption, tabindex="0")


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """A list of terms and what they are."""
    entries = [tag("div", tag("dt", term), tag("dd", value)) for term, value in pairs]
    return tag("dl", *entries, class_="facts") if entries else Html()


def section(ident: str, title: str, *parts: object) -> Html:
    heading = tag("h2", title, id=f"{ident}-title")
    return tag("section", heading, *parts, id=ident, aria_labelledby=f"{ident}-title")


def absent(sentence: str) -> Html:
    """The line that stands where a section has nothing to show."""
    return tag("p", sentence, class_="absent")


def thumbnail(source: object, alt: str) -> Html:
    """An embedded picture; anything that is not one stays out of the page."""
    if isinstance(source, str) and _THUMBNAIL.fullmatch(source):
        return tag("img", src=source, alt=alt)
    return tag("span", "no picture", class_="no-picture")


def json_script(ident: str, data: Any) -> Html:
    """`data` as JSON inside a script element, with every sign that could end the element written as \\u.

    >>> json_script("x", {"a": "</script>"})
    '<script type="application/json" id="x">{"a":"\\\\u003c/script\\\\u003e"}</script>'
    """
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))  # ASCII only: U+2028 is escaped too
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return tag("script", Html(text), type="application/json", id=ident)


def script(code: str) -> tuple[Html, str]:
    """An inline script of our own, and its hash for the page's content security policy."""
    code = code.replace("\r\n", "\n").replace("\r", "\n")  # what the browser hashes
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    return tag("script", Html(code)), f"'sha256-{digest}'"
