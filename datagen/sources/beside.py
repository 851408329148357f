"""Finding the sidecar that lies beside a video.

Names taken, for a video `talk.mp4`: `talk.srt`, `talk.mp4.srt`, `talk.en.srt`, `talk.en-US.srt`, and with
the kind of a subtitle track before the language: `talk.descriptions.en.vtt`. Other words in between
(`talk.mp4.cuts.json`) mean something else.

Of several, preferred are: the language asked for; then no language in the name; then English; then
descriptions (they tell what is seen); then .srt, .vtt, .json, .jsonl, .csv; then the name.
"""

import os
import re
from typing import NamedTuple

_TYPES = (".srt", ".vtt", ".json", ".jsonl", ".csv")
_KINDS = frozenset({"captions", "subtitles", "descriptions"})
_LANGUAGE = re.compile(r"[a-z]{2}(?:-[a-z0-9]{2,8})?", re.IGNORECASE)
_LONG_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z0-9]{2,8})*", re.IGNORECASE)


class Candidate(NamedTuple):
    """A file that may be the sidecar of a video."""

    name: str
    kind: int
    """Place of its extension in the order of preference."""
    language: str
    """Lower case; empty where the name has none."""
    described: bool


def index(names: list[str]) -> dict[str, list[Candidate]]:
    """The sidecars among the files of a folder, by the video stem or file name they would belong to."""
    found: dict[str, list[Candidate]] = {}
    for name in names:
        base, extension = os.path.splitext(name)  # noqa: PTH122 called for every file of large folders
        extension = extension.lower()
        if extension in _TYPES and not name.startswith("."):
            for owner, language, kind in _owners(base, extension in (".srt", ".vtt")):
                candidate = Candidate(name, _TYPES.index(extension), language, kind == "descriptions")
                found.setdefault(owner, []).append(candidate)
    return found


def _owners(base: str, subtitles: bool) -> list[tuple[str, str, str]]:
    """(owner, language, kind) for every way to read the name. Only subtitles have three-letter languages
    and kinds: `talk.raw.json` is no transcript.
    """
    owners = [(base, "", "")]
    rest, _, last = base.rpartition(".")
    pattern = _LONG_LANGUAGE if subtitles else _LANGUAGE
    if rest and pattern.fullmatch(last):
        owners.append((rest, last.lower(), ""))
        before, _, kind = rest.rpartition(".")
        if before and subtitles and kind.lower() in _KINDS:
            owners.append((before, last.lower(), kind.lower()))
    elif rest and subtitles and last.lower() in _KINDS:
        owners.append((rest, "", last.lower()))
    return owners


def choose(found: dict[str, list[Candidate]], video: str, language: str | None = None) -> str | None:
    """The name of the preferred sidecar of a video file, given `index` of its folder."""
    candidates = found.get(os.path.splitext(video)[0], []) + found.get(video, [])  # noqa: PTH122
    if not candidates:
        return None
    wanted = (language or "").lower()

    def preference(c: Candidate) -> tuple[bool, bool, bool, bool, bool, int, str]:
        short = c.language.partition("-")[0]
        return (
            bool(wanted) and c.language != wanted,
            bool(wanted) and (not short or short != wanted.partition("-")[0]),
            c.language != "",
            short != "en",
            not c.described,
            c.kind,
            c.name,
        )

    return min(candidates, key=preference).name
