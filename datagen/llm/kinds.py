"""What the kinds of question have to do with time: which may name what is to come, which are repeated."""

from datagen.config import SILENT_KINDS, Shape

WAITING_KINDS: tuple[Shape, ...] = ("detect", "count", "state_change", "mistake", *SILENT_KINDS)
"""Questions that may name what has not been shown yet: the viewer knows, or believes, what to wait for."""
RETURNING_KINDS: tuple[Shape, ...] = ("detect", "count", "state_change", "mistake")
"""Questions to which the same reply is right again when the same thing happens again."""
START_KINDS: tuple[Shape, ...] = (
    "narrate",
    "guide",
    "monitor",
    "detect",
    "count",
    "state_change",
    "mistake",
    "never",
    "unanswerable",
    "swap",
)
"""Questions that can be asked before anything has been shown."""
