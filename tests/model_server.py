"""A chat endpoint on loopback for whole builds: sane replies after a while, each call noted in a file.

`python -m tests.model_server PORT LOG SECONDS` notes every request for a reply in a schema as one JSON line,
after the answer has been sent: the hash of its body and the second it was sent.
"""

import asyncio
import base64
import hashlib
import json
import re
import sys
import time
from pathlib import Path

from aiohttp import web

KEY = "sk-loopback-secret"


def caption(urls: list[str]) -> dict:
    looks = [hashlib.md5(base64.b64decode(url.partition(",")[2])).hexdigest()[:4] for url in urls]
    words = [f"object{look}" for look in looks]
    return {
        "seen": f"A viewer would notice these shapes moving past one another slowly: {' and '.join(words)}.",
        "heard": None,
        "actions": ["shapes move"],
        "objects": words[:12],
        "state_changes": [],
        "on_screen_text": [],
        "uncertain": [],
    }


def questions(notes: list[dict]) -> dict:
    def answers(chosen: list[dict]) -> list[dict]:
        return [
            {
                "segment": note["id"],
                "evidence": [note["seen"]],
                "reply": f"Now {re.findall('object[0-9a-f]+', note['seen'])[0]} is moving past slowly.",
            }
            for note in chosen
        ]

    half = len(notes) // 2
    return {
        "questions": [
            {
                "ask_after": "START",
                "type": "narrate",
                "question": "Which shapes are moving past here?",
                "immediate": None,
                "answers": answers(notes[: half - 1]),
            },
            {
                "ask_after": notes[half]["id"],
                "type": "monitor",
                "question": "What else is moving past from now on?",
                "immediate": None,
                "answers": answers(notes[half + 1 :]),
            },
        ]
    }


def objects(text: str) -> list[str]:
    return re.findall("object[0-9a-f]+", text)


def question(asked: str) -> dict:
    """Another one each time: by how many were asked before."""
    earlier = asked.count("?")
    wordings = ("Which shapes are moving past here?", "What else is moving past?", "And what moves past now?")
    return {"question": wordings[earlier] if earlier < len(wordings) else None}


def reply(notes: list[dict], asked: str) -> dict:
    """Tells of the last stretch what has not been told."""
    new = [name for name in objects(notes[-1]["seen"]) if name not in asked]
    said = f"Now {new[0]} is moving past slowly." if new else None
    return {"from": [notes[-1]["id"]], "evidence": [notes[-1]["seen"]], "reply": said}


def verdict(notes: list[dict], asked: str) -> dict:
    """Whether the notes know of every object in the reply."""
    known = set(objects(json.dumps(notes)))
    said = objects(asked.rpartition("reply: ")[2])
    return {
        "answerable": "yes" if known.issuperset(said) else "no",
        "earliest_sufficient": None,
        "uses_future": False,
        "contradicts": False,
        "adds_new": True,
        "referent_clear": True,
        "hint": None,
    }


def reply_to(schema: str, text: str, urls: list[str]) -> dict:
    """What the model says to a request for a reply in this schema, with this text and these pictures."""
    inside, _, asked = text.partition("<notes>\n")[2].partition("</notes>")
    notes = [json.loads(line) for line in inside.splitlines() if line.strip()]
    if schema == "caption":
        return caption(urls)
    if schema == "sufficient":
        return {"sufficient": "yes" if len(urls) > 1 else "no"}
    if schema == "silence":
        return {"called_for": None, "hint": None}
    if schema == "question":
        return question(asked)
    if schema == "reply":
        return reply(notes, asked)
    return verdict(notes, asked) if schema == "judge" else questions(notes)


def answer_to(request: dict) -> dict:
    """The same for a request as it comes over the wire; one without a schema asks who is there."""
    if "response_format" not in request:
        return {"ok": True}
    texts, urls = [], []
    for message in request["messages"]:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        urls += [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        if message["role"] == "user":
            texts += [part["text"] for part in parts if part["type"] == "text"]
    return reply_to(request["response_format"]["json_schema"]["name"], "\n".join(texts), urls)


def main() -> None:
    port, log, seconds = int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])

    async def chat(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.json_response(
                {"error": {"message": "wrong key", "code": "invalid_api_key"}}, status=401
            )
        body = await request.read()
        asked = json.loads(body)
        if asked["model"] != "scripted":
            error = {"message": "no such model", "code": "model_not_found"}
            return web.json_response({"error": error}, status=404)
        await asyncio.sleep(seconds)
        content = json.dumps(answer_to(asked))
        message = {"role": "assistant", "content": content}
        answer = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "scripted",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
        }
        response = web.json_response(answer)
        try:
            await response.prepare(request)
            await response.write_eof()
        except ConnectionError:  # the caller was killed: nobody has the answer
            return response
        if "response_format" not in asked:
            return response
        stripped = {key: asked[key] for key in ("model", "messages")}
        digest = hashlib.md5(json.dumps(stripped, sort_keys=True).encode()).hexdigest()
        with log.open("a") as file:
            file.write(json.dumps([digest, time.time()]) + "\n")
        return response

    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/v1/chat/completions", chat)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


if __name__ == "__main__":
    main()
