"""Measures what causal writing costs: dialogues written at once and then proved, or written as lived through.

    python benchmarks/writing.py [--videos 20]

A scripted model writes for made-up videos as long as the paper's web and ego videos are, 8 s a segment and
35 words a note. To an nQnA it gives about as many answers as the paper's dialogues have (6.7 and 5.6); the
judge finds nothing wrong. Tokens are characters / 4; cached are those of the longest beginning, in blocks of
16, that an earlier request for the same video shares: what a server with a prefix cache does not read again.
"""

import argparse
import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from datagen.config import DialogueOptions
from datagen.dialogue.checks import check_dialogue
from datagen.dialogue.judge import judge_answers
from datagen.dialogue.synthesize import synthesize
from datagen.llm.chat import ChatReply, ChatRequest, Text
from datagen.llm.wordings import fraction
from datagen.records import Caption, Segment, Video

LENGTHS = {"web": (93.0, 6.7), "ego": (164.0, 5.6)}
SECONDS = 8.0
BLOCK = 64
"""Characters of 16 tokens."""
QUESTIONS = (
    "What is going on here, bit by bit?",
    "Keep me posted on what happens, please.",
    "Tell me what else is done from now on.",
    "What comes next, and what after that?",
)
NOUNS = """
pot knife board onion spoon towel bottle window chair table cup lid stove sink bowl basket drawer shelf lamp
cable hammer screw panel wheel brush bucket ladder rope glove box paper card
"""
ADJECTIVES = "red blue small large wooden metal round flat wet dry old new white green"
VERBS = "lifts turns places wipes opens closes holds moves cuts presses pulls carries shakes fills"
YES = {
    "answerable": "yes",
    "earliest_sufficient": None,
    "uses_future": False,
    "contradicts": False,
    "adds_new": True,
    "referent_clear": True,
    "hint": None,
}


def note(rng: random.Random) -> str:
    """About 35 words on what can be seen."""
    parts = []
    for person in ("A woman", "The man beside her", "A child", "She"):
        one, other = rng.sample(NOUNS.split(), 2)
        verb, look = rng.choice(VERBS.split()), rng.choice(ADJECTIVES.split())
        parts.append(f"{person} {verb} the {look} {one} near the {other}")
    return ". ".join(parts) + "."


class Writer:
    """A scripted model that counts what it is asked."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.counts: Counter[str] = Counter()
        self._seen: set[int] = set()

    async def __call__(self, request: ChatRequest) -> ChatReply:
        """The reply to a request."""
        texts = [
            part.text for message in request.messages for part in message.parts if isinstance(part, Text)
        ]
        text = json.dumps(self._reply(request.schema or "", "\n".join(texts)))
        prompt = "\n".join(texts)
        cached = 0
        for end in range(BLOCK, len(prompt) + 1, BLOCK):
            beginning = hash(prompt[:end])
            if beginning in self._seen and cached == end - BLOCK:
                cached = end
            self._seen.add(beginning)
        self.counts += Counter(
            calls=1, prompt=len(prompt) // 4, cached=cached // 4, completion=len(text) // 4 + 1
        )
        return ChatReply(
            text=text, finish_reason="stop", model="m", prompt_tokens=1, completion_tokens=1, attempts=()
        )

    def _reply(self, schema: str, prompt: str) -> dict[str, Any]:
        inside, _, asked = prompt.partition("<notes>\n")[2].partition("</notes>")
        notes = [json.loads(line) for line in inside.splitlines() if line]
        if schema == "judge":
            return YES
        if schema == "silence":
            return {"called_for": None, "hint": None}
        if schema == "question":
            return {"question": QUESTIONS[sum(question in asked for question in QUESTIONS)]}
        if schema == "reply":
            question = next(question for question in QUESTIONS if question in asked)
            return self._entry(notes[-1], question, at_once="just been asked" in asked)
        count = int(asked.replace("Plan", "Propose").partition("Propose ")[2].split()[0])
        return (
            {"dialogues": self._dialogues(notes, count)}
            if schema == "one_qna"
            else self._sequence(notes, count)
        )

    def _entry(self, note: dict[str, str], question: str, at_once: bool = False) -> dict[str, Any]:
        speaks = fraction(question, note["seen"]) < self.share and not at_once
        words = note["seen"].split(". ")[0]
        return {
            "from": [note["id"]],
            "evidence": [words] if speaks else [],
            "reply": f"{words}." if speaks else None,
        }

    def _answers(self, notes: list[dict[str, str]], question: str) -> list[dict[str, Any]]:
        entries = [self._entry(note, question) for note in notes]
        return [
            {"segment": note["id"], "evidence": entry["evidence"], "reply": entry["reply"]}
            for note, entry in zip(notes, entries, strict=True)
        ]

    def _dialogues(self, notes: list[dict[str, str]], count: int) -> list[dict[str, Any]]:
        return [
            {"type": "narrate", "question": question, "answers": self._answers(notes, question)}
            for question in QUESTIONS[:count]
        ]

    def _sequence(self, notes: list[dict[str, str]], count: int) -> dict[str, Any]:
        starts = [round(number * len(notes) / count) for number in range(count)]
        return {
            "questions": [
                {
                    "ask_after": notes[start - 1]["id"] if start else "START",
                    "type": "narrate",
                    "question": question,
                    "immediate": None,
                    "answers": self._answers(notes[start : stop - 1 if stop else None], question),
                }
                for question, start, stop in zip(QUESTIONS, starts, [*starts[1:], None], strict=False)
            ]
        }


async def measure(kind: str, type: str, writing: str, videos: int) -> Counter[str]:
    """Calls and tokens of both stages, for some videos; `answers` and `dialogues` are what came of it."""
    duration, answers = LENGTHS[kind]
    found: Counter[str] = Counter()
    for number in range(videos):
        rng = random.Random(number)
        size = round(duration / SECONDS)
        segments = tuple(
            Segment(id=f"v:{i}", video_id="v", start=i * SECONDS, end=(i + 1) * SECONDS, method="uniform")
            for i in range(size)
        )
        captions = tuple(
            Caption(segment_id=segment.id, seen=note(rng), heard=None, provenance="m") for segment in segments
        )
        video = Video(
            id=f"v{number}", digest="", name="", duration=duration, fps=30, width=64, height=36, codec="x"
        )
        options = DialogueOptions(type=type, writing=writing, shapes=("narrate",))  # type: ignore[arg-type]
        writer = Writer(answers / size)
        dialogues, _ = await synthesize(video, segments, captions, options, 0, writer, "m")
        for name, count in writer.counts.items():
            found[f"write {name}"] += count
        writer.counts.clear()
        checked = [check_dialogue(one, segments, captions, 60)[0] for one in dialogues]
        for one in filter(None, checked):
            await judge_answers(one, segments, captions, writer, "m")
            found["answers"] += sum(len(question.answers) for question in one.questions)
            found["dialogues"] += 1
        for name, count in writer.counts.items():
            found[f"judge {name}"] += count
    return found


def rows(videos: int) -> Iterator[str]:
    """The table, a line at a time."""
    yield f"{'a video':<30}{'answers':>8}{'calls':>8}{'prompt':>9}{'cached':>9}{'to read':>9}{'written':>9}"
    for kind in LENGTHS:
        for type in ("nqna", "1qna"):
            for writing in ("at_once", "incremental"):
                found = asyncio.run(measure(kind, type, writing, videos))
                for stages, name in ((("write",), writing), (("write", "judge"), f"{writing} + judge")):
                    calls, prompt, cached, written = (
                        sum(found[f"{stage} {part}"] for stage in stages) / videos
                        for part in ("calls", "prompt", "cached", "completion")
                    )
                    label = f"{kind} {type} {name}".ljust(30)
                    yield (
                        f"{label}{found['answers'] / videos:>8.1f}{calls:>8.1f}{prompt:>9.0f}{cached:>9.0f}"
                        f"{prompt - cached:>9.0f}{written:>9.0f}"
                    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=20)
    for row in rows(parser.parse_args().videos):
        print(row)


if __name__ == "__main__":
    main()
