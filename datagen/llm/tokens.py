"""How many tokens a request is worth before anybody has counted them."""

from datagen.llm.chat import ChatRequest, Picture

CHARACTERS_PER_TOKEN = 4
"""Of English text, as providers state it as a rule of thumb."""
PIXELS_PER_TOKEN = 28 * 28
"""Of a picture: the patches that Qwen2-VL and its successors merge into one token (arXiv 2409.12191)."""
PER_MESSAGE = 4
"""For the marks around a message."""


def picture_tokens(max_pixels: int) -> int:
    """Tokens of one training frame of at most so many pixels; 128 for 100,352."""
    return -(-max_pixels // PIXELS_PER_TOKEN)


def prompt_tokens(request: ChatRequest, a_picture: int) -> int:
    """Tokens of a request's messages by rule, where a picture takes `a_picture`.

    A JSON Schema that goes along is not counted: most servers keep to it without reading it to the model.
    """
    parts = [part for message in request.messages for part in message.parts]
    pictures = sum(isinstance(part, Picture) for part in parts)
    characters = sum(len(part.text) for part in parts if not isinstance(part, Picture))
    marks = PER_MESSAGE * len(request.messages)
    return pictures * a_picture + -(-characters // CHARACTERS_PER_TOKEN) + marks
