"""One call that goes by batches: which it was put into, and when it is over."""

from collections.abc import Callable

from datagen.errors import UsageError
from datagen.llm.batch_files import custom_id
from datagen.llm.chat import ChatRequest
from datagen.llm.client import KEY_VARIABLE
from datagen.llm.client_reply import Fault
from datagen.llm.client_tries import Tries


class Call:
    """How one call fares."""

    def __init__(self, request: ChatRequest, shown: str, safe: Callable[[str], str]) -> None:
        """`shown` names the endpoint in messages; `safe` takes the key out of what it says."""
        self.tries = Tries(request, shown, safe)
        self.sent = 0
        """Batches that it was put into."""
        self._dropped: set[str] = set()

    def name(self, unsupported: tuple[str, ...]) -> str:
        """The name in files of what is asked next. Raises Invalid."""
        return custom_id(self.tries.request, self.tries.max_tokens, unsupported)

    def fail(self, fault: Fault, seconds: float, rounds: int) -> bool:
        """Whether a fault is worth another batch, `rounds` in all. Raises Refused and UsageError."""
        text = self.tries.fail(fault, seconds)
        if fault.kind == "fatal":
            raise UsageError(f"{self.tries.where}: {text}; check the URL, the model and {KEY_VARIABLE}")
        if fault.kind == "unsupported":
            again = fault.option not in self._dropped
            self._dropped.add(fault.option)
            return again
        return fault.kind != "unusable" and self.sent < rounds
