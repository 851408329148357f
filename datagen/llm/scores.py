"""A model judges a reply: how much of the truth it gives, which PAUC is made of, and whether it is new."""

from collections.abc import Sequence
from typing import Any

from datagen.errors import Invalid
from datagen.llm.prompts import load_prompt, make_request
from datagen.llm.repair import Ask, Fault, ask_traced


async def score(ask: Ask, model: str, question: str, truth: str, reply: str, top: int) -> int:
    """The grade of a reply, from 0 to `top` (2 as in the benchmark, or 4 as in training).

    Raises Invalid where no grade could be had after repair, and Provider and Refused as `ask` does: a
    failure is never a grade of 0.
    """

    def check(value: dict[str, Any]) -> list[Fault]:
        given = value["score"]
        return [Fault("/score", "range", str(given), f"0 to {top}")] if given > top else []

    values = {"question": question, "truth": truth, "reply": reply, "top": top}
    value, faults, _ = await ask_traced(make_request(load_prompt("score"), model, values), check, ask)
    if faults:
        raise Invalid(f"the judge gives {faults[0].text}, which is no grade from {faults[0].allowed}")
    return int(value["score"])


async def repeats(ask: Ask, model: str, earlier: Sequence[str], reply: str) -> bool:
    """Whether all that the reply says has been said in the earlier ones.

    Raises Invalid where no verdict could be had after repair, and Provider and Refused as `ask` does.
    """
    request = make_request(load_prompt("repeats"), model, {"earlier": earlier, "reply": reply})
    value, _, _ = await ask_traced(request, lambda value: (), ask)
    return bool(value["repeats"])
