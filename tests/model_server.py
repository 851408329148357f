"""A chat endpoint on loopback for whole builds: sane replies after a while, each call noted in a file.

`python -m tests.model_server PORT LOG SECONDS` notes every request it answers as one JSON line, after the
answer has been sent: the hash of its body and the second it was sent.
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


def caption(request: dict) -> dict:
    pictures = [
        part["image_url"]["url"]
        for message in request["messages"]
        if isinstance(message["content"], list)
        for part in message["content"]
        if part["type"] == "image_url"
    ]
    looks = [hashlib.md5(base64.b64decode(url.partition(",")[2])).hexdigest()[:4] for url in pictures]
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


def reply_to(request: dict) -> dict:
    text = json.dumps(request["messages"])
    if "image_url" in text:
        return caption(request)
    block = "".join(
        part if isinstance(part, str) else part.get("text", "")
        for message in request["messages"]
        for part in ([message["content"]] if isinstance(message["content"], str) else message["content"])
        if message["role"] == "user"
    )
    inside = block.partition("<notes>")[2].partition("</notes>")[0]
    return questions([json.loads(line) for line in inside.splitlines() if line.strip()])


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
        content = json.dumps(reply_to(asked))
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
