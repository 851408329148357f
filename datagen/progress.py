"""Tells people how far a run is: a bar per stage on a terminal, a plain line now and then elsewhere, or JSON
lines for machines.
"""

import heapq
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, TextIO

from tqdm import tqdm

from datagen.config import Price
from datagen.ledger import FLOW, Cost, Event
from datagen.money import dollars, stage_of

STAGES = {"probe": "probe", "watch": "watch", FLOW: "dialogues"}
"""Stages that every video goes through, by step."""

SECONDS_BETWEEN_LINES = 10.0

SLOWEST = 5
"""Steps named at the end, those that took longest ..."""
SLOW_SECONDS = 5.0
"""... if they took this long."""


def tell(text: str, stream: TextIO) -> None:
    """Print something at once. Whoever read along, such as `head`, may have seen enough: a run goes on."""
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Progress:
    """Counts of done, rejected and left for each stage, calls by stage, and what they cost.

    A stage found in the ledger counts as done. `paid` is what had been spent before this run, in dollars.
    """

    def __init__(
        self,
        total: int,
        quiet: bool,
        as_json: bool = False,
        prices: Mapping[str, Price] | None = None,
        paid: float = 0.0,
    ) -> None:
        self._total = total
        self._quiet = quiet
        self._as_json = as_json
        self._prices = prices or {}
        self._usd = paid
        self._seen: dict[str, set[str]] = {}
        self._done = dict.fromkeys(STAGES, 0)
        self._rejected = dict.fromkeys(STAGES, 0)
        self._calls: Counter[str] = Counter()
        self._slowest: list[tuple[float, str, str]] = []
        self.ran: Counter[str] = Counter()
        """Steps really run, by name; what the ledger had is not among them."""
        self._started = self._told = time.monotonic()
        self._bars: dict[str, Any] = {}
        if sys.stderr.isatty() and not quiet and not as_json:
            for row, (step, title) in enumerate(STAGES.items()):
                self._bars[step] = tqdm(
                    total=total, desc=f"{title:<9}", position=row, unit="video", leave=True
                )

    def update(self, events: list[Event]) -> None:
        """Take in new results."""
        for event in events:
            if event.step == FLOW:
                seen = self._seen.pop(event.item, set())
                for step in STAGES:
                    self._done[step] += step not in seen
                self._rejected[FLOW] += event.code is not None
                continue
            self.ran[event.step] += 1
            if event.step in STAGES:
                self._seen.setdefault(event.item, set()).add(event.step)
                self._done[event.step] += 1
                self._rejected[event.step] += event.code is not None
            if event.cost is not None:
                self._count(event.cost)
            self._time(event)
        self._show()

    def slowest(self) -> list[tuple[float, str, str]]:
        """The steps of this run that took longest, the worst first: seconds, step, and the video's item."""
        return sorted(self._slowest, reverse=True)

    def state(self) -> dict[str, Any]:
        """How far the run is, as one line for machines."""
        spent = time.monotonic() - self._started
        return {
            "event": "progress",
            "seconds": round(spent, 1),
            "stages": {title: self._stage(step, spent) for step, title in STAGES.items()},
            "calls": dict(sorted(self._calls.items())),
            "usd": round(self._usd, 6),
        }

    def close(self) -> None:
        """Leave the last state standing."""
        for bar in self._bars.values():
            bar.close()
        if self._as_json or (not self._bars and not self._quiet and self._told > self._started):
            self._line()

    def _count(self, cost: Cost) -> None:
        self._calls[stage_of(cost.prompt)] += cost.calls
        self._usd += dollars(cost, self._prices) or 0.0

    def _time(self, event: Event) -> None:
        if event.seconds >= SLOW_SECONDS:
            heapq.heappush(self._slowest, (event.seconds, event.step, event.item))
            if len(self._slowest) > SLOWEST:
                heapq.heappop(self._slowest)

    def _stage(self, step: str, spent: float) -> dict[str, Any]:
        done, left = self._done[step], self._total - self._done[step]
        return {
            "done": done,
            "left": left,
            "rejected": self._rejected[step],
            "per_second": round(done / spent, 3) if spent else 0.0,
            "seconds_left": round(spent / done * left) if done else None,
        }

    def _show(self) -> None:
        for step, bar in self._bars.items():
            bar.n = self._done[step]
            bar.set_postfix_str(f"{self._rejected[step]} rejected, {self._total - bar.n} left")
        if self._bars and self._calls:
            self._bars[FLOW].set_postfix_str(f"{self._rejected[FLOW]} rejected, {self._asked()}")
        now = time.monotonic()
        silent = self._quiet and not self._as_json
        if not self._bars and not silent and now - self._told >= SECONDS_BETWEEN_LINES:
            self._told = now
            self._line()

    def _asked(self) -> str:
        calls = ", ".join(f"{count:,} {stage}" for stage, count in sorted(self._calls.items()))
        return f"calls: {calls}" + (f", ${self._usd:.2f} in all" if self._usd else "")

    def _line(self) -> None:
        state = self.state()
        if self._as_json:
            tell(json.dumps(state), sys.stdout)
            return
        parts = [
            f"{title} {of['done']}/{self._total} ({of['rejected']} rejected, {of['per_second']:.3g}/s)"
            for title, of in state["stages"].items()
        ]
        left = state["stages"][STAGES[FLOW]]["seconds_left"]
        parts.append(f"{tqdm.format_interval(left) if left is not None else '?'} left")
        parts += [self._asked()] if self._calls else []
        tell(", ".join(parts), sys.stderr)
