"""A model that says what a test tells it to, and remembers what it was asked."""

import json

from datagen.llm.chat import ChatReply, ChatRequest


class Scripted:
    """Gives one reply after the other: text, a value to be written as JSON, an exception to raise, or a
    function of the request that gives one of these. The last one is given for ever.
    """

    def __init__(self, *replies):
        self.replies = list(replies)
        self.requests: list[ChatRequest] = []

    async def __call__(self, request):
        self.requests.append(request)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if callable(reply):
            reply = reply(request)
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, ChatReply):
            return reply
        return said(reply if isinstance(reply, str) else json.dumps(reply))


def said(text, finish_reason="stop"):
    return ChatReply(
        text=text,
        finish_reason=finish_reason,
        model="m",
        prompt_tokens=1,
        completion_tokens=1,
        attempts=(),
    )


def text_of(request, role=None):
    """All text of a request, or of its messages of one role."""
    return "\n".join(
        part.text
        for message in request.messages
        for part in message.parts
        if hasattr(part, "text") and role in (None, message.role)
    )


def faults_in(request):
    """The faults that a repair request sends back."""
    block = text_of(request).rpartition("<data>\n")[2].partition("</data>")[0]
    return [json.loads(line) for line in block.splitlines() if line]


def repairs(**values):
    """A reply to a repair request; paths are written with __ for /."""
    return {"repairs": [{"path": path.replace("__", "/"), "value": value} for path, value in values.items()]}
