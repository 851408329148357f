"""The scripted model of `model_server`, in a thread of the tests, with a meter: every try is billed."""

import hashlib
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.model_server import KEY, answer_to

PROMPT_USD, REPLY_USD = 2.0, 10.0
"""For a million tokens."""


def prompt_tokens(asked: dict) -> int:
    """Not the rule of datagen: 3.3 characters a token, and 110 a picture."""
    total = 0.0
    for message in asked["messages"]:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        total += sum(len(p["text"]) / 3.3 if p["type"] == "text" else 110 for p in parts)
    return int(total) + 20


class PricedServer:
    """`with PricedServer() as server`; `refuse` names schemas whose calls are billed and then refused."""

    def __init__(self, seconds: float = 0.0, refuse: tuple[str, ...] = ()) -> None:
        self.seconds, self.refuse = seconds, refuse
        self.calls: Counter[str] = Counter()
        self.prompts: Counter[str] = Counter()
        self.urls: list[str] = []
        self.tokens = [0, 0]
        self.most_usd = 0.0
        self._lock = threading.Lock()

    @property
    def usd(self) -> float:
        return (self.tokens[0] * PROMPT_USD + self.tokens[1] * REPLY_USD) / 1e6

    def options(self) -> list[str]:
        url = f"http://127.0.0.1:{self._server.server_port}/v1"
        prices = f"prices={{scripted: {{input: {PROMPT_USD}, output: {REPLY_USD}}}}}"
        named = ["--llm-url", url, "--llm-model", "scripted", "--vlm-url", url, "--vlm-model", "scripted"]
        return [*named, "--set", prices]

    def __enter__(self) -> "PricedServer":
        meter = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.headers["Authorization"] != f"Bearer {KEY}":
                    self._send(401, {"error": {"message": "wrong key", "code": "invalid_api_key"}})
                    return
                time.sleep(meter.seconds)
                self._send(200, meter.answer(asked))

            def _send(self, status: int, answer: dict) -> None:
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, asked: dict) -> dict:
        form = asked.get("response_format")
        schema = form["json_schema"]["name"] if form else "preflight"
        content = json.dumps(answer_to(asked)) if form else "OK"
        refused = schema in self.refuse
        message = {"role": "assistant", "content": None, "refusal": "I cannot help with that."}
        if not refused:
            message = {"role": "assistant", "content": content}
        usage = {"prompt_tokens": prompt_tokens(asked), "completion_tokens": len(content) // 4}
        with self._lock:
            self.tokens[0] += usage["prompt_tokens"]
            self.tokens[1] += usage["completion_tokens"]
            self.prompts[schema] += 1
            if form:
                text = json.dumps([asked["model"], asked["messages"]])
                self.calls[hashlib.md5(text.encode()).hexdigest()] += 1
                self.urls += [part["image_url"]["url"] for part in _parts(asked) if "image_url" in part]
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {"id": "c", "model": "scripted", "choices": [choice], "usage": usage}


def _parts(asked: dict) -> list[dict]:
    return [part for m in asked["messages"] if isinstance(m["content"], list) for part in m["content"]]
