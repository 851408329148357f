"""Steps within one flow: what is asked for twice is run once."""

import asyncio

import msgspec
import pytest

from datagen.errors import Failure, OverBudget, Refused
from datagen.ledger import Cost, Event, Known
from datagen.runner import Step, Task
from datagen.sandbox import Children
from tests import flows


def cost_of(number: int, outcome: int | Failure) -> Cost:
    lost = isinstance(outcome, Failure)
    return Cost(prompt="p", model="m", failed=int(lost), tries=number, prompt_tokens=1, completion_tokens=0)


def make_step(known: dict[str, Known], events: list[Event]) -> Step:
    task = Task("key", "item", flows.entry(1), known)
    return Step(task, {"ask": 1}, Children(1, 1024), events.append, cost_of)


class Asked:
    """Counts how often it is asked; 13 is refused, after two tries."""

    def __init__(self) -> None:
        self.count = 0

    async def ask(self, number: int) -> int:
        self.count += 1
        await asyncio.sleep(0)
        if number == 13:
            failure = Refused("unlucky")
            failure.attempts = ("first", "second")
            raise failure
        if number == 99:
            raise OverBudget
        return 2 * number


def test_identical_calls_of_a_flow_are_made_once_at_a_time_and_one_after_the_other():
    asked, events = Asked(), []

    async def run() -> list[int]:
        step = make_step({}, events)
        together = await asyncio.gather(*(step.call(asked.ask, 4) for _ in range(3)))
        return [*together, await step.call(asked.ask, 4), await step.call(asked.ask, 5)]

    assert asyncio.run(run()) == [8, 8, 8, 8, 10]
    assert asked.count == 2 and [event.cost.tries for event in events] == [4, 5]


def test_a_failure_is_kept_with_its_tries_and_comes_back_from_the_ledger_the_same():
    asked, events = Asked(), []
    with pytest.raises(Refused, match="unlucky"):
        asyncio.run(make_step({}, events).call(asked.ask, 13))
    (event,) = events
    kept = {"detail": "unlucky", "attempts": ["first", "second"]}
    assert event.code == "Refused" and event.cost.failed == 1
    assert msgspec.json.decode(event.value) == kept
    with pytest.raises(Refused, match="unlucky"):
        asyncio.run(make_step({event.key: Known(event.value, event.code)}, events).call(asked.ask, 13))
    assert asked.count == 1 and len(events) == 1


def test_a_call_for_which_there_is_no_money_leaves_nothing():
    asked, events = Asked(), []
    with pytest.raises(OverBudget):
        asyncio.run(make_step({}, events).call(asked.ask, 99))
    assert events == []
