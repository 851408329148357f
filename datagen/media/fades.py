"""Fades: changes of shot through a picture that shows nothing, black, white or any colour.

In a fade the contrast falls steadily to nothing and returns, however much the shots move.
"""

from collections import deque

from datagen.media.clock import EPSILON
from datagen.media.small import FLAT, STEP, Small, change, returns
from datagen.records import Boundary

_LONGEST = 2.4
"""Seconds that contrast may take to fall."""

_GROWTH = 1.03
"""Factor by which contrast differs from one picture to the next while it falls or rises."""

_BRIEF = 0.6
"""Seconds within which a picture that comes back means a flash or a blink."""

_SHOT = 2.0
"""Seconds from which on a flat picture is a shot of its own."""


class Fades:
    """Fades between the pictures added one by one."""

    def __init__(self) -> None:
        self.found: list[Boundary] = []
        self.recent: deque[Small] = deque()
        self.falling: list[Small] = []
        """The last full picture and those after it, down to the first flat one."""
        self.flat: float | None = None
        """When the flat stretch began."""
        self.rising: list[Small] = []
        """The last flat picture and those after it, while contrast grows."""
        self.least = 0.0
        """Least contrast of the flat stretch."""

    def add(self, small: Small) -> None:
        """The next picture."""
        near = self.recent and small.time - self.recent[-1].time < STEP - EPSILON
        # A flat stretch may be a single picture long.
        if near and small.contrast >= FLAT:
            return
        if small.contrast < FLAT:
            if self.flat is None:
                self.falling = self._fall(small)
                self.flat, self.least = small.time, small.contrast
            self.least = min(self.least, small.contrast)
            self.rising = [small]
        elif self.rising:
            if small.contrast > _GROWTH * self.rising[-1].contrast:
                self.rising.append(small)
            else:
                self._close()
        self.recent.append(small)
        while small.time - self.recent[0].time > _LONGEST:
            self.recent.popleft()

    def _fall(self, small: Small) -> list[Small]:
        fall = [small]
        for earlier in reversed(self.recent):
            if earlier.contrast <= _GROWTH * fall[0].contrast:
                break
            fall.insert(0, earlier)
        return fall

    def finish(self) -> list[Boundary]:
        """All fades found."""
        self._close()
        return self.found

    def _close(self) -> None:
        """Keep the fade that has ended, if it is one."""
        falling, rising, flat = self.falling, self.rising, self.flat
        self.falling, self.rising, self.flat = [], [], None
        if flat is None or len(falling) < 2 or len(rising) < 2:
            return
        before, after = falling[0], rising[-1]
        if min(before.contrast, after.contrast) < 2 * self.least:
            return
        fell, rose = _ramp(falling), _ramp(rising)
        score = round(change(before, falling[-1]) / 255, 4)
        if rising[0].time - flat > _SHOT:
            if fell:
                self.found.append(Boundary(falling[1].time, flat, "fade", score))
            if rose:
                self.found.append(Boundary(rising[1].time, after.time, "fade", score))
        elif (fell or rose) and not (after.time - before.time < _BRIEF and returns(before, after)):
            self.found.append(Boundary(falling[1].time, after.time, "fade", score))


def _ramp(pictures: list[Small]) -> bool:
    contrasts = [small.contrast for small in pictures]
    return any(0.1 < contrast / max(contrasts) < 0.8 for contrast in contrasts if contrast >= FLAT)
