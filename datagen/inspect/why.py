"""`datagen show OUT ID --why`: where a text comes from, back to the model call or the line of a sidecar.

Who wrote what is in the tables. What a call took and said, and what a line of a sidecar reads, is looked up
in the ledger of the build, where that is still there.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow.dataset as ds

from datagen.errors import UsageError
from datagen.inspect.lookup import Memory, nearest_ids, row_of, table_rows
from datagen.inspect.terminal import plain, wrapped
from datagen.ledger import Lost
from datagen.llm.prompts import load_prompt
from datagen.llm.rule_captions import describe
from datagen.records import Call

_ITEM = re.compile(r"(?P<dialogue>.+?)/q\d{1,6}(?:/a\d{1,6})?")
_PROMPT = re.compile(r"(?P<name>[a-z_]{1,60})/(?P<version>v\d{1,6}):[0-9a-f]+")
_ROW = re.compile(r"(?P<dialogue>.+)(?:@\d+|#seg\d+)")


class _Told(NamedTuple):
    """Where to look, and what has been told of so far, so that it is told once, at the end."""

    out: Path
    memory: Memory
    calls: dict[Call, None]
    segments: dict[str, None]
    videos: dict[str, None]
    sidecars: dict[str, tuple[str, dict[str, str]]]
    """Of each video the name of its sidecar, and the lines of it by their numbers or keys."""


def why(out: Path, wanted: str, raw: bool = False) -> Iterator[str]:
    """The chain of every text that goes by an id: of a video, segment, dialogue, question or answer, of a row
    to train on, or of something rejected; with `raw`, what the models said, as they said it.

    Raises UsageError where nothing has that id, naming the nearest, or the tables cannot be read.
    """
    with contextlib.closing(Memory(out)) as memory:
        told = _Told(out, memory, {}, {}, {}, {})
        lines = [*_texts(told, wanted), *_rejected(told, wanted)]
        for id in told.segments:
            lines += _segment(told, id)
        if table_rows(out, "videos", ds.field("id") == wanted, ["id"]):
            told.videos[wanted] = None
        for call in told.calls:
            lines += _call(told, call, raw)
        for id in told.videos:
            lines += _video(told, id)
        if not lines:
            near = ", ".join(plain(id) for id in nearest_ids(out, wanted))
            raise UsageError(f"ID {plain(wanted)}: nothing in {out} has it; the nearest are {near or 'none'}")
        yield from lines
        yield from _missing(told)


def _texts(told: _Told, wanted: str) -> Iterator[str]:
    """What is published under an id, but for videos."""
    if table_rows(told.out, "segments", ds.field("id") == wanted, ["id"]):
        told.segments[wanted] = None
    found = row_of(told.out, wanted)
    part = _ROW.fullmatch(wanted) if found else None
    whole = _ITEM.fullmatch(wanted) or part
    id = whole["dialogue"] if whole else wanted
    if found:
        yield from wrapped(f"{found[0]} row ", f"{wanted}: a part of dialogue {id}" if part else wanted)
    within = _row_text(found[1]) if found and part else None
    for row in table_rows(told.out, "dialogues", ds.field("id") == id):
        yield from _dialogue(told, row, id if part else wanted, within)


def _row_text(row: dict[str, Any]) -> str:
    """All text of an SFT or RL row, to find what stands in it."""
    messages = row.get("messages") or row.get("prompt") or []
    texts = [message["content"] for message in messages]
    for answer in (row.get("reward_model") or {"ground_truth": {"answer": []}})["ground_truth"]["answer"]:
        texts += [answer["question"], answer["content"]]
    return "\n".join(texts)


def _dialogue(told: _Told, row: dict[str, Any], wanted: str, within: str | None) -> Iterator[str]:
    """A dialogue, or one question or answer of it, or what of it stands within a text."""

    def is_wanted(text: str, *items: str) -> bool:
        return wanted in (row["id"], *items) and (within is None or text in within)

    lines: list[str] = []
    for q, question in enumerate(row["questions"]):
        asked = f"{row['id']}/q{q}"
        if is_wanted(question["text"], asked):
            at = f"asked at {question['ask_time']:.1f} s"
            lines += wrapped("question ", f"{asked}, {question['kind']}, {at}")
            lines += wrapped("    text      ", question["text"])
            lines += _origin(told, question, row)
        for a, answer in enumerate(question["answers"]):
            item = f"{asked}/a{a}"
            if is_wanted(answer["text"], asked, item):
                due = f"due {answer['reply_start']:.1f}-{answer['reply_end']:.1f} s"
                lines += wrapped("answer ", f"{item}, {due}")
                lines += wrapped("    text      ", answer["text"])
                lines += _origin(told, answer, row)
                lines += wrapped("    rests on  ", ", ".join(answer["evidence"]))
                told.segments.update(dict.fromkeys(answer["evidence"]))
    if lines:
        told.videos[row["video_id"]] = None
        yield from wrapped("dialogue ", f"{row['id']}, {row['type']}, of video {row['video_id']}")
        yield from wrapped("    by        ", row["provenance"])
        yield from lines


def _origin(told: _Told, text: dict[str, Any], row: dict[str, Any]) -> Iterator[str]:
    """Who wrote a question or an answer."""
    calls = text.get("calls") or []
    yield from _calls(told, calls)
    if row["provenance"] == "rule":
        wording = text.get("wording")
        how = f"wording {wording}" if wording else "as it was annotated, said or measured"
        yield from wrapped("    by rule   ", how)
        yield from _lines(told, row["video_id"], text.get("keys") or [])
    elif not calls:
        yield from wrapped("    by model  ", "no call is known: made by a datagen that did not keep them")


def _calls(told: _Told, calls: list[dict[str, Any]], judged: str = ", and let it stand") -> Iterator[str]:
    for call in msgspec.convert(calls, tuple[Call, ...]):
        told.calls[call] = None
        kept = judged if call.role == "judged" else ""
        yield from wrapped(f"    {call.role:<10}", f"call {call.id or 'unknown'} ({call.prompt}){kept}")


def _lines(told: _Told, video_id: str, keys: Sequence[str]) -> Iterator[str]:
    """The lines of a sidecar with what they read."""
    if keys and video_id not in told.sidecars:
        rows = table_rows(told.out, "videos", ds.field("id") == video_id)
        name = rows[0].get("sidecar", "") if rows else ""
        told.sidecars[video_id] = (name, told.memory.sidecar_lines(video_id))
    for key in keys:
        name, lines = told.sidecars[video_id]
        yield from wrapped("    sidecar   ", ": ".join(filter(None, (name, key, lines.get(key)))))


def _segment(told: _Told, id: str) -> Iterator[str]:
    for row in table_rows(told.out, "segments", ds.field("id") == id):
        told.videos[row["video_id"]] = None
        yield from wrapped("segment ", f"{id}, {row['start']:.1f}-{row['end']:.1f} s, cut by {row['method']}")
        for name in ("seen", "heard"):
            if row[name]:
                yield from wrapped(f"    {name:<10}", row[name])
        traits = {trait["name"]: trait["value"] for trait in row["traits"]}
        measured = " ".join(text for _, text in describe(traits, id)) if not row.get("calls") else ""
        both = measured and measured == row["seen"] and row["provenance"] != "pixels"
        by = f"{row['provenance']}; what is seen: pixels" if both else row["provenance"]
        yield from wrapped("    by        ", by or "nobody: it could not be captioned")
        yield from _calls(told, row.get("calls") or [])
        yield from _lines(told, row["video_id"], row["keys"])
        if measured and measured == row["seen"]:
            shown = ", ".join(f"{name} {value}" for name, value in traits.items())
            yield from wrapped("    measured  ", shown)


def _call(told: _Told, call: Call, raw: bool) -> Iterator[str]:
    yield from wrapped("call ", call.id or "unknown")
    yield from wrapped("    prompt    ", f"{call.prompt}{_released(call.prompt)}")
    yield from wrapped("    model     ", f"{call.model}, served as {call.served or 'nothing: it failed'}")
    reply = told.memory.reply(call.id)
    if isinstance(reply, Lost):
        yield from wrapped("    failed    ", reply.detail)
    elif reply is not None:
        failed = [attempt for attempt in reply.attempts if attempt.fault]
        faults = "".join(f"; {attempt.fault}" for attempt in failed)
        tokens = f"{reply.prompt_tokens} + {reply.completion_tokens} tokens"
        yield from wrapped("    took      ", f"{tokens}; tries: {len(reply.attempts)}{faults}")
        if raw:
            yield from wrapped("    said      ", reply.text)


def _released(prompt: str) -> str:
    """Whether the prompts are those of this installation."""
    changed = []
    for one in prompt.split("+"):
        match = _PROMPT.fullmatch(one)
        with contextlib.suppress(UsageError):
            if match and load_prompt(match["name"], match["version"]).id == one:
                continue
        changed.append(one)
    return f"; this datagen has no such {', '.join(changed)}" if changed else ""


def _rejected(told: _Told, wanted: str) -> Iterator[str]:
    for row in table_rows(told.out, "rejected", ds.field("item_id") == wanted):
        yield from wrapped("rejected ", f"{wanted}, of video {row['video_id']}, at {row['stage']}")
        yield from wrapped("    reason    ", f"{row['code']}: {row['detail']}")
        yield from _calls(told, row.get("calls") or [], judged="")
        told.videos[row["video_id"]] = None


def _video(told: _Told, id: str) -> Iterator[str]:
    for row in table_rows(told.out, "videos", ds.field("id") == id):
        yield from wrapped("video ", f"{id}, {row['path']}, {row['duration']:.1f} s")
        yield from wrapped("    digest    ", row["digest"])
        yield from wrapped("    licence   ", f"{row['licence'] or 'none named'}; source {row['source']}")
        if row.get("sidecar"):
            licence = row.get("sidecar_licence")
            own = f", licence {licence}" if licence else ""
            yield from wrapped("    sidecar   ", f"{row['sidecar']} ({row['sidecar_format']}){own}")


def _missing(told: _Told) -> Iterator[str]:
    if not told.memory.is_there:
        what = "which remembers tokens, tries and replies of calls and the lines of sidecars"
        yield from wrapped("missing: ", f"{told.out / '.work' / 'ledger.sqlite'}, {what}")
        return
    unknown = sum(told.memory.reply(call.id) is None for call in told.calls)
    if unknown:
        yield from wrapped("missing: ", f"{unknown} of {len(told.calls)} calls are not in the ledger")
    if not all(lines for _, lines in told.sidecars.values()):
        yield from wrapped("missing: ", "the lines of the sidecar are not in the ledger")
