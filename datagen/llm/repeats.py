"""A model judges whether a reply says anything new: the repetition penalty of the RL reward."""

from collections.abc import Sequence

from datagen.llm.prompts import load_prompt, make_request
from datagen.llm.repair import Ask, ask_checked


async def repeats(ask: Ask, model: str, earlier: Sequence[str], reply: str) -> bool:
    """Whether all that the reply says has been said in the earlier ones.

    Raises Invalid where no verdict could be had after repair, and Provider and Refused as `ask` does.
    """
    request = make_request(load_prompt("repeats"), model, {"earlier": earlier, "reply": reply})
    value, _ = await ask_checked(request, lambda value: (), ask)
    return bool(value["repeats"])
