"""A web server on loopback that serves a folder and counts, and misbehaves where it is told to."""

import functools
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Files:
    """What the server does, and what it has been asked for."""

    def __init__(self) -> None:
        self.url = ""
        self.got: Counter[str] = Counter()
        """GET requests by path."""
        self.most = 0
        """Most files sent at a time."""
        self.faults: dict[str, str] = {}
        """By path: `cut` (half of the file, then the end), `cut once`, `stall` (nothing more after half of
        it), or a status."""
        self.sending = 0
        self.going_on = threading.Event()
        self.lock = threading.Lock()


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *args, files: Files, **more) -> None:
        self.files = files
        super().__init__(*args, **more)

    def log_message(self, *args) -> None:
        pass

    def do_HEAD(self) -> None:
        fault = self.files.faults.get(self.path.partition("?")[0], "")
        if fault.isdigit():
            self.send_error(int(fault))
        else:
            super().do_HEAD()

    def do_GET(self) -> None:
        files, path = self.files, self.path.partition("?")[0]
        with files.lock:
            files.got[path] += 1
            files.sending += 1
            files.most = max(files.most, files.sending)
        try:
            self.answer(path)
        finally:
            with files.lock:
                files.sending -= 1

    def answer(self, path: str) -> None:
        fault = self.files.faults.get(path, "")
        if fault.isdigit():
            self.send_error(int(fault))
        elif fault in ("cut", "stall") or (fault == "cut once" and self.files.got[path] == 1):
            data = (Path(self.directory) / path.lstrip("/")).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            if fault == "stall":
                self.files.going_on.wait(60)
            self.close_connection = True
        else:
            super().do_GET()


@contextmanager
def serving(folder: Path) -> Iterator[Files]:
    """Serve a folder until the end of the block."""
    files = Files()
    handler = functools.partial(_Handler, files=files, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    files.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield files
    finally:
        files.going_on.set()
        server.shutdown()
        server.server_close()
