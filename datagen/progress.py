"""Tells people how far a run is: a bar per stage on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections import Counter
from typing import Any

from tqdm import tqdm

from datagen.ledger import FLOW, Event

STAGES = {"probe": "probe", "watch": "watch", FLOW: "dialogues"}
"""Stages shown, by step."""

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts of done, rejected and left for each stage. A stage found in the ledger counts as done."""

    def __init__(self, total: int, quiet: bool) -> None:
        self._total = total
        self._quiet = quiet
        self._seen: dict[str, set[str]] = {}
        self._done = dict.fromkeys(STAGES, 0)
        self._rejected = dict.fromkeys(STAGES, 0)
        self.ran: Counter[str] = Counter()
        """Steps really run, by name; what the ledger had is not among them."""
        self._started = self._told = time.monotonic()
        self._bars: dict[str, Any] = {}
        if sys.stderr.isatty() and not quiet:
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
        self._show()

    def close(self) -> None:
        """Leave the last state standing."""
        if self._bars:
            for bar in self._bars.values():
                bar.close()
        elif not self._quiet and self._told > self._started:
            self._line()

    def _show(self) -> None:
        for step, bar in self._bars.items():
            bar.n = self._done[step]
            bar.set_postfix_str(f"{self._rejected[step]} rejected, {self._total - bar.n} left")
        now = time.monotonic()
        if not self._bars and not self._quiet and now - self._told >= SECONDS_BETWEEN_LINES:
            self._told = now
            self._line()

    def _line(self) -> None:
        counts = ", ".join(
            f"{title} {self._done[step]}/{self._total} ({self._rejected[step]} rejected)"
            for step, title in STAGES.items()
        )
        done = self._done[FLOW]
        spent = time.monotonic() - self._started
        left = tqdm.format_interval(spent / done * (self._total - done)) if done else "?"
        print(f"{counts}, {left} left", file=sys.stderr, flush=True)
