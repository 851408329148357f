"""A model judges how much of a true answer a reply gives: the scores that PAUC is made of."""

from typing import Any

from datagen.errors import Invalid
from datagen.llm.prompts import load_prompt, make_request
from datagen.llm.repair import Ask, Fault, ask_checked


async def score(ask: Ask, model: str, question: str, truth: str, reply: str, top: int) -> int:
    """The grade of a reply, from 0 to `top` (2 as in the benchmark, or 4 as in training).

    Raises Invalid where no grade could be had after repair, and Provider and Refused as `ask` does: a
    failure is never a grade of 0.
    """

    def check(value: dict[str, Any]) -> list[Fault]:
        given = value["score"]
        return [Fault("/score", "range", str(given), f"0 to {top}")] if given > top else []

    values = {"question": question, "truth": truth, "reply": reply, "top": top}
    value, faults = await ask_checked(make_request(load_prompt("score"), model, values), check, ask)
    if faults:
        raise Invalid(f"the judge gives {faults[0].text}, which is no grade from {faults[0].allowed}")
    return int(value["score"])
