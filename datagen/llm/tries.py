"""One call, however it goes to a model: what its tries were paid for, and when it is over."""

from msgspec import structs

from datagen.errors import Provider, Refused, UsageError
from datagen.llm.chat import Attempt, ChatReply, ChatRequest
from datagen.llm.client_address import KEY_VARIABLE, Place
from datagen.llm.client_reply import Completion, Fault, Usage

_MOST_TOKENS = 1_000_000_000
"""No call takes more."""


class Tries:
    """How far one call has come."""

    def __init__(self, request: ChatRequest, place: Place) -> None:
        self.request = request
        self.max_tokens = request.max_tokens
        self.attempts: list[Attempt] = []
        self._place = place
        self._dropped: set[str] = set()
        self._cut_off: ChatReply | None = None

    def take(self, completion: Completion, seconds: float) -> ChatReply | None:
        """The reply of a completion; None where it was cut off and is worth a longer try. Raises Refused."""
        choice, usage = completion.choices[0], completion.usage or Usage()
        finish = choice.finish_reason or ""
        prompt_tokens = _counted(usage.prompt_tokens)
        completion_tokens = _counted(usage.completion_tokens)
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
            raise Refused(f"{self.request.model}: {self._place.safe(' '.join(text.split())[:300])}")
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

    def fail(self, fault: Fault, seconds: float) -> bool:
        """Note a try that failed; whether another may do better. What the endpoint does not support is left
        out of all calls from now on.

        Raises Refused, and UsageError for what no call could do better.
        """
        text = self._place.safe(fault.text)
        self.attempts.append(Attempt(status=fault.status, seconds=seconds, fault=text))
        if fault.kind == "refused":
            raise Refused(f"{self.request.model}: {text}")
        if fault.kind == "fatal":
            raise UsageError(f"{self._where}: {text}; check the URL, the model and {KEY_VARIABLE}")
        if fault.kind != "unsupported":
            return fault.kind != "unusable"
        again = fault.option not in self._dropped
        self._dropped.add(fault.option)
        if fault.option not in self._place.unsupported:
            self._place.unsupported.append(fault.option)
        return again

    def give_up(self) -> ChatReply:
        """The reply that was cut off, if there is nothing better; otherwise raise Provider."""
        if self._cut_off is not None:
            return structs.replace(self._cut_off, attempts=tuple(self.attempts))
        last = self.attempts[-1].fault if self.attempts else "no try"
        tries = "1 try" if len(self.attempts) == 1 else f"{len(self.attempts)} tries"
        raise Provider(f"{self._where}: {tries}, last: {last}")

    @property
    def _where(self) -> str:
        return f"{self._place.shown}, model {self.request.model}"


def _counted(tokens: int | None) -> int:
    """Tokens by an endpoint's count; 0 where it counts none, or says what cannot be."""
    return tokens if tokens and 0 < tokens <= _MOST_TOKENS else 0
