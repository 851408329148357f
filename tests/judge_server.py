"""A judge on loopback for the RL reward: exact, in a thread of the tests."""

import json
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def verdict(asked: dict) -> dict:
    """The best grade for the true answer and 0 for others; what stands in an earlier reply is repeated."""
    text = "\n".join(
        part if isinstance(part, str) else part["text"]
        for message in asked["messages"]
        if message["role"] == "user"
        for part in ([message["content"]] if isinstance(message["content"], str) else message["content"])
    )
    said = {key: json.loads(value) for key, value in re.findall(r"^([a-z ]+): (.*)$", text, re.M)}
    if "earlier replies" in said:
        return {"repeats": any(said["newest reply"] in reply for reply in said["earlier replies"])}
    top = 2 if "0 to 2" in json.dumps(asked) else 4
    return {"score": top if said["what was said"] == said["true answer"] else 0}


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class JudgeServer:
    """`with JudgeServer() as judge`; `judge.url` is its address, `judge.calls` counts calls by schema."""

    def __init__(self) -> None:
        self.calls, self.keys = Counter(), set()

    def __enter__(self) -> "JudgeServer":
        judge = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                schema = asked["response_format"]["json_schema"]["name"]
                judge.calls[schema] += 1
                judge.keys.add(self.headers["Authorization"])
                message = {"role": "assistant", "content": json.dumps(verdict(asked))}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                usage = {"prompt_tokens": 1, "completion_tokens": 1}
                answer = {"id": "c", "model": "judge", "choices": [choice], "usage": usage}
                data = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
