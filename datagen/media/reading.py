"""What becomes known of a video while its pictures are read: how long it is, and what is wrong with it."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any


@dataclass
class Reading:
    """Filled while the pictures of a video are read; complete when they are through."""

    duration: float = 0.0
    """Seconds from the start of what was asked for to the end of the last readable picture."""
    aspect: Fraction | None = None
    """Width of a stored pixel, its height being 1."""
    claimed: float = 0.0
    """Seconds the file says its pictures last; 0 where it does not say."""
    leeway: float = 0.5
    """Seconds by which that claim may be off in a sound file."""
    reached_end: bool = False
    """The pictures go on at least to the end that was asked for."""
    bad_packets: int = 0
    first_bad: float | None = None
    """Seconds after the first picture, where known."""
    flawed: int = 0
    """Pictures given although parts of them, or of what precedes them, were damaged or missing."""
    left_out: int = 0
    """Pictures stamped earlier than others already shown."""
    stopped: str | None = None
    """Why the file could not be read to its end."""

    def lose(self, packet: Any) -> None:
        """Count a packet that no picture could be had from."""
        if not self.bad_packets:
            stamp = packet.pts if packet.pts is not None else packet.dts
            self.first_bad = None if stamp is None else float(stamp * packet.time_base)
        self.bad_packets += 1

    def forget(self) -> None:
        """Start to count damage again, as reading begins again elsewhere."""
        self.bad_packets, self.first_bad, self.flawed, self.stopped = 0, None, 0, None

    def damage(self, start: float, end: float | None) -> str | None:
        """In words, why only a part of what was asked for could be read; None if all of it was."""
        found = []
        if self.bad_packets:
            first = "" if self.first_bad is None else f", the first at {self.first_bad:.1f} s"
            found.append(f"{self.bad_packets} packets could not be decoded{first}")
        if self.flawed:
            found.append(f"{self.flawed} pictures may be damaged")
        if self.left_out:
            found.append(f"{self.left_out} pictures came too late to be shown")
        wanted = (min(end, self.claimed) if end is not None else self.claimed) - start
        if not self.reached_end and self.duration < wanted - self.leeway:
            found.append(f"ends early: {self.duration:.1f} of {wanted:.1f} s are readable")
        elif self.stopped:
            found.append(f"reading stopped at {self.duration:.1f} s: {self.stopped}")
        return "; ".join(found) or None
