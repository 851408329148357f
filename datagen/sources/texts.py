"""Untrusted text made safe to show: decoded, stripped of markup and of what nobody said."""

import html
import re
import unicodedata

_MARKUP = re.compile(r"</?[A-Za-z][^<>]*>|<[0-9:.]+>|\{\\[^{}]*\}")
_LINE_BREAK = re.compile(r"\\[Nnh](?![a-z])")
_SQUARE_CUE = re.compile(r"\[[^\[\]]*\]|【[^【】]*】")
_ROUND_CUE = re.compile(r"\([^()]*\)|（[^（）]*）")
_NOTES = frozenset("♩♪♫♬🎵🎶")
_UNSEEN = frozenset("\u200b\u200e\u200f\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def decode(data: bytes) -> str:
    """Text in whatever encoding it has: by its byte order mark, else UTF-8, UTF-16, Windows-1252."""
    if data.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        return data.decode("utf-32", "replace")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    head = data[:2000]
    if head.count(0) > len(head) // 4:
        little = head[1::2].count(0) >= head[0::2].count(0)
        return data.decode("utf-16-le" if little else "utf-16-be", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def clean(text: str) -> str:
    """One line of valid Unicode: no control or direction characters, runs of white space as one."""
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    text = text.encode("utf-8", "replace").decode("utf-8")
    kept = (" " if unicodedata.category(c) == "Cc" else c for c in text if c not in _UNSEEN)
    return " ".join("".join(kept).split())


def without_markup(text: str) -> str:
    """The text without HTML, WebVTT and ASS markup, entities unescaped."""
    return html.unescape(_MARKUP.sub("", _LINE_BREAK.sub(" ", text)))


def spoken(text: str) -> str:
    """What of a transcript was said: without `[Music]` and the like; empty for lyrics and lone cues."""
    if not _NOTES.isdisjoint(text):
        return ""
    text = _SQUARE_CUE.sub(" ", text)
    if not has_words(_ROUND_CUE.sub(" ", text)):
        return ""
    return clean(text).removeprefix(">>").lstrip("-–— ")


def has_words(text: str) -> bool:
    """Whether any letter or digit, of any script, is in it."""
    return any(c.isalnum() for c in text)


def shown(value: object) -> str:
    """An untrusted value for a message: one line, short."""
    if isinstance(value, list | dict):  # which may be large, or nested deeper than repr can go
        return "a list" if isinstance(value, list) else "an object"
    text = clean(value[:200] if isinstance(value, str) else str(value)[:200])
    return f"`{text[:60]}...`" if len(text) > 60 else f"`{text}`"


def valid_name(name: str) -> str:
    """A file name as valid Unicode: bytes that are not UTF-8 are written as \\xff."""
    if name.isascii():
        return name
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
