"""report.html, made of its parts: one file that asks nothing of any network.

Text of unknown origin reaches the page in two ways: escaped by the template, or as JSON in blocks that no
browser runs, which the script turns into text nodes. The policy in the head lets only this file's own style
and script work (Content Security Policy Level 3, https://www.w3.org/TR/CSP3/).
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, StrictUndefined

_PARTS = Path(__file__).parent / "page"
_SCRIPTS = ("dialogue.js", "report.js")
"""In this order: the second begins to draw."""


def render(values: Mapping[str, Any], index: Any, pages: Sequence[Any]) -> str:
    """The page: `values` for the template; `index` and `pages` as JSON for the script."""
    style = (_PARTS / "report.css").read_text(encoding="utf-8")
    script = "".join((_PARTS / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string((_PARTS / "report.html.j2").read_text(encoding="utf-8"))
    return template.render(
        **values,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        index=inert(index),
        pages=[inert(page) for page in pages],
    )


def inert(value: Any) -> str:
    """JSON that cannot end the script block it stands in: no angle bracket is left in it."""
    text = msgspec.json.encode(value).decode()
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
