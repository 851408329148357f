"""A judge on loopback that grades by a function of (question, truth, said) and counts its calls."""

import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "scripted-judge"
KEY = "sk-judge-on-loopback"


class Judge:
    """`grade(question, truth, said)` gives a number, a text to reply with as it is, or an HTTP status."""

    def __init__(self, grade):
        self.grade = grade
        self.asked = []
        self.scales = set()


@contextmanager
def serving(judge):
    """The URL at which the judge answers."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.headers.get("Authorization") != f"Bearer {KEY}":
                return self.reply(401, {"error": {"message": "wrong key", "code": "invalid_api_key"}})
            given = "OK"
            if "response_format" in asked:
                text = "\n".join(map(str, (message["content"] for message in asked["messages"])))
                if "what was said" in text:
                    judge.scales.add(int(re.search(r"from 0 to (\d)", text)[1]))
                given = judge.grade(*_claim(asked))
                judge.asked.append(_claim(asked))
            if isinstance(given, int) and given >= 100:
                return self.reply(given, {"error": {"message": "out of order"}})
            content = json.dumps({"score": given}) if isinstance(given, int) else given
            message = {"role": "assistant", "content": content}
            return self.reply(
                200,
                {
                    "id": "1", "object": "chat.completion", "created": 1, "model": MODEL,
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 50, "completion_tokens": 5, "total_tokens": 55},
                },
            )  # fmt: skip

        def reply(self, status, value):
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _claim(asked):
    """Question, truth and what was said, from the last block of data that a request holds."""
    texts = []
    for message in asked["messages"]:
        content = message["content"]
        texts += [content] if isinstance(content, str) else [part["text"] for part in content]
    block = next(text for text in texts if "what was said: " in text)
    return tuple(
        json.loads(re.search(rf"^{name}: (.*)$", block, re.MULTILINE)[1])
        for name in ("question", "true answer", "what was said")
    )
