"""What one video takes of model calls: requests that were counted, and what will follow from their replies.

How often replies are repaired and judged, and how long they are, is taken from what this output has seen of
calls with the same prompt and model; where it has seen none, from the assumptions that stand here.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from datagen.config import Config, DialogueOptions
from datagen.ledger import Cost
from datagen.llm.chat import ChatRequest
from datagen.llm.models import Models
from datagen.llm.prices import CHARACTERS_PER_TOKEN, PIXELS_PER_TOKEN, picture_tokens, prompt_tokens
from datagen.llm.prompts import load_prompt
from datagen.money import prompt_name

_REPLY_TOKENS = {
    "caption": 160,
    "one_qna": 1200,
    "n_qna": 900,
    "question": 40,
    "reply": 80,
    "judge": 70,
    "sufficient": 20,
}
"""Assumed tokens of a reply, by prompt."""
_OTHER_REPLY_TOKENS = 150
_ANSWERS = 0.6
"""Assumed replies in a dialogue for each segment."""
_READINGS = 1.2
"""Assumed calls to judge a reply: what the first does not bear out is read again."""
_LOOKS, _PICTURES = 5, 5
"""Assumed calls to find the first sufficient frame for a reply, and the frames that each of them shows."""
_SHOWN = {"reply": 0.5, "judge": 0.6}
"""Share of a video's notes that a call is shown, on average: those so far, and to judge again all."""
_REPAIRS = {"caption": 0.05, "one_qna": 0.5, "n_qna": 0.5, "reply": 0.1}
"""Assumed calls for a repair, over those with this prompt."""
_REPAIR_TOKENS = 300
"""Assumed tokens of what is wrong with a reply."""
_BEGIN = ("one_qna", "n_qna", "question")
"""Prompts with which the dialogues of a video begin."""

Key = tuple[str, str]
"""Prompt and model."""
Seen = Mapping[Key, Cost]


class Load(NamedTuple):
    """What one video takes, of one prompt and model."""

    calls: float
    prompt_tokens: float
    completion_tokens: float


def video_loads(
    requests: Sequence[ChatRequest], segments: int, config: Config, models: Models, seen: Seen
) -> dict[Key, Load]:
    """What one video takes: the requests counted, and what follows from replies that nobody has given."""
    a_picture = picture_tokens(config.frames.max_pixels)
    loads: dict[Key, Load] = {}

    def add(key: Key, calls: float, tokens: float) -> None:
        """So many calls with so many tokens each, where this output has not seen what they really have."""
        old = loads.get(key, Load(0.0, 0.0, 0.0))
        more = Load(calls, calls * tokens, calls * _reply_tokens(key, seen))
        loads[key] = Load(*map(sum, zip(old, more, strict=True)))

    for request in requests:
        key = (prompt_name(request), request.model)
        add(key, 1, prompt_tokens(request, a_picture) * _ratio(key, seen))
    llm, vlm = models.llm_model or "", models.vlm_model or ""
    begun = [request for request in requests if prompt_name(request) in _BEGIN]
    if begun:
        notes = sum(map(_notes_tokens, begun)) / len(begun)
        base, before = _base(len(begun), segments, llm, vlm, seen)
        for prompt, count in _follow_ups(segments, config.dialogue).items():
            key = (prompt, vlm if prompt == "sufficient" else llm)
            if key[1]:
                known = seen[key].calls / before * base if key in seen and before else None
                shown = _PICTURES * a_picture if prompt == "sufficient" else _SHOWN[prompt] * notes
                rule = _own_tokens(prompt) + shown
                add(key, count if known is None else known, _mean_prompt(key, seen) or rule)
    for (prompt, model), load in list(loads.items()):
        key = (f"{prompt}+repair", model)
        first = seen.get((prompt, model))
        share = seen[key].calls / first.calls if first and key in seen else None
        if share is None:
            share = 0.0 if first else _REPAIRS.get(prompt, 0.0)
        if share:
            each = (load.prompt_tokens + load.completion_tokens) / load.calls + _REPAIR_TOKENS
            add(key, share * load.calls, _mean_prompt(key, seen) or each)
    return loads


def _follow_ups(segments: int, options: DialogueOptions) -> dict[str, float]:
    """Calls that come after those that begin a video's dialogues, by assumption."""
    questions = max(options.min_questions, min(options.max_questions, segments))
    # Of 1QnA every question goes on to the end; of nQnA each segment belongs to one.
    at_a_time = {"1qna": questions, "nqna": 1, "mixed": (1 + questions) / 2}[options.type]
    answers = _ANSWERS * segments * at_a_time
    wanted = {
        "reply": segments * at_a_time if options.writing == "incremental" else 0,
        "judge": _READINGS * answers if options.judge else 0,
        "sufficient": _LOOKS * answers if options.tighten else 0,
    }
    return {prompt: calls for prompt, calls in wanted.items() if calls}


def _base(begun: int, segments: int, llm: str, vlm: str, seen: Seen) -> tuple[int, int]:
    """What follow-ups are proportional to, in this video and in all that this output has seen: segments where
    captions are asked for, otherwise the calls with which dialogues begin.
    """
    if ("caption", vlm) in seen:
        return segments, seen["caption", vlm].calls
    return begun, sum(seen[prompt, llm].calls for prompt in _BEGIN if (prompt, llm) in seen)


def _notes_tokens(request: ChatRequest) -> float:
    """Tokens of the notes in a request: of what the user says. Replies and judgements are given them too."""
    said = replace(request, messages=tuple(m for m in request.messages if m.role == "user"))
    return prompt_tokens(said, 0)


def _own_tokens(prompt: str) -> float:
    """Tokens of a prompt before anything is put in."""
    return sum(len(text) for _, text in load_prompt(prompt).sections) / CHARACTERS_PER_TOKEN


def _ratio(key: Key, seen: Seen) -> float:
    """Tokens of prompts as they were counted, over what the rule says of them."""
    cost = seen.get(key)
    return cost.prompt_tokens / cost.expected_tokens if cost and cost.expected_tokens else 1.0


def _mean_prompt(key: Key, seen: Seen) -> float:
    return seen[key].prompt_tokens / seen[key].calls if key in seen else 0.0


def _reply_tokens(key: Key, seen: Seen) -> float:
    cost = seen.get(key)
    if cost and cost.completion_tokens:
        return cost.completion_tokens / cost.calls
    return _REPLY_TOKENS.get(key[0], _OTHER_REPLY_TOKENS)


def assumption_lines() -> list[str]:
    """The assumptions, for people."""
    replies = ", ".join(f"{name} {count}" for name, count in _REPLY_TOKENS.items())
    repairs = ", ".join(f"{share:.0%} of {name}" for name, share in _REPAIRS.items())
    return [
        f"    a token is {CHARACTERS_PER_TOKEN} characters or {PIXELS_PER_TOKEN} pixels of a prompt;",
        f"    tokens of a reply: {replies}, others {_OTHER_REPLY_TOKENS};",
        f"    {_ANSWERS:g} replies a segment, each judged {_READINGS:g} times; repairs: {repairs}.",
        "    Once some videos are built, an estimate goes by what was seen.",
    ]
