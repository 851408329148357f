"""One call, however it goes to the endpoint: what its tries were paid for, and when a reply ends it."""

from collections.abc import Callable

from msgspec import structs

from datagen.errors import Provider, Refused
from datagen.llm.chat import Attempt, ChatReply, ChatRequest
from datagen.llm.client_reply import Completion, Fault


class Tries:
    """How far one call has come."""

    def __init__(self, request: ChatRequest, shown: str, safe: Callable[[str], str]) -> None:
        """`shown` names the endpoint in messages; `safe` takes the key out of what it says."""
        self.request = request
        self.max_tokens = request.max_tokens
        self.attempts: list[Attempt] = []
        self.where = f"{shown}, model {request.model}"
        self._safe = safe
        self._cut_off: ChatReply | None = None

    def take(self, completion: Completion, seconds: float) -> ChatReply | None:
        """The reply of a completion; None where it was cut off and is worth a longer try. Raises Refused."""
        choice, usage = completion.choices[0], completion.usage
        finish = choice.finish_reason or ""
        prompt_tokens = (usage and usage.prompt_tokens) or 0
        completion_tokens = (usage and usage.completion_tokens) or 0
        cut_off = finish == "length" and self._cut_off is None
        attempt = Attempt(
            status=200,
            seconds=seconds,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            finish_reason=finish,
            fault=f"cut off at max_tokens {self.max_tokens}" if cut_off else "",
        )
        self.attempts.append(attempt)
        if choice.message.refusal or finish == "content_filter":
            text = choice.message.refusal or "withheld by the endpoint's content filter"
            raise Refused(f"{self.request.model}: {self._safe(' '.join(text.split())[:300])}")
        reply = ChatReply(
            text=choice.message.content or "",
            finish_reason=finish,
            model=completion.model or self.request.model,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            attempts=tuple(self.attempts),
        )
        if cut_off:
            self._cut_off, self.max_tokens = reply, 2 * self.max_tokens
            return None
        return reply

    def fail(self, fault: Fault, seconds: float) -> str:
        """Note a try that failed; returns why, without the key. Raises Refused."""
        text = self._safe(fault.text)
        self.attempts.append(Attempt(status=fault.status, seconds=seconds, fault=text))
        if fault.kind == "refused":
            raise Refused(f"{self.request.model}: {text}")
        return text

    def give_up(self) -> ChatReply:
        """The reply that was cut off, if there is nothing better; otherwise raise Provider."""
        if self._cut_off is not None:
            return structs.replace(self._cut_off, attempts=tuple(self.attempts))
        last = self.attempts[-1].fault if self.attempts else "no try"
        tries = "1 try" if len(self.attempts) == 1 else f"{len(self.attempts)} tries"
        raise Provider(f"{self.where}: {tries}, last: {last}")
