"""The Hugging Face Hub on loopback, as far as uploads need it: repositories, preupload, LFS, commits."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REGULAR_BYTES = 10_000
"""Files that are no Parquet and smaller than this come with the commit, as on the Hub."""


class Hub:
    """What the server has been sent."""

    def __init__(self):
        self.url = ""
        self.private = {}
        self.files = {}
        """Path to bytes, of the last commit."""
        self.large = {}
        """Path to sha256, of the files among these that did not come with their commit."""
        self.stored = {}
        """Objects by their sha256."""
        self.uploads = []
        """The sha256 of each object sent."""
        self.commits = []
        self.tokens = set()
        self.xet_bytes = 0
        """Bytes sent by the Xet protocol, which are counted and forgotten."""
        self.refuse_after = None
        """Number of uploads after which all are refused."""
        self.lock = threading.Lock()

    def commit(self, lines):
        files = dict(self.files)
        for line in lines:
            value = line["value"]
            if line["key"] != "header":
                self.large.pop(value["path"], None)
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.stored.get(value["oid"], b"")
                self.large[value["path"]] = value["oid"]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        self.files = files
        self.commits.append([line["key"] for line in lines])

    def oid(self, path):
        """As the Hub tells it: the sha256 of a large file, git's hash of another."""
        data = self.files.get(path)
        if data is None or path in self.large:
            return None if data is None else self.large[path]
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def save(self, folder):
        """Write the files of the last commit to a folder."""
        for name, data in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return folder


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args):
        pass

    def reply(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def do_GET(self):
        path = self.path.partition("?")[0]
        if "/tree/" in path:
            self.reply(
                200,
                [
                    {"type": "file", "path": name, "size": len(data), "oid": self.hub.oid(name)}
                    for name, data in self.hub.files.items()
                ],
            )
        elif "/xet-write-token/" in path:
            self.reply(200, {"casUrl": self.hub.url, "exp": 4_000_000_000, "accessToken": "xet"})
        elif path.startswith("/api/datasets/"):
            repo = "/".join(path.split("/")[3:5])
            self.reply(200, {"id": repo, "sha": "0" * 40, "private": self.hub.private[repo], "siblings": []})
        else:
            self.reply(404, {"error": path})

    def do_POST(self):
        hub, body = self.hub, self.body()
        hub.tokens.add(self.headers.get("Authorization"))
        if self.path == "/api/repos/create":
            self.create(json.loads(body))
        elif self.path == "/api/validate-yaml":
            self.reply(200, {})
        elif "/preupload/" in self.path:
            self.reply(200, {"files": [self.mode(file) for file in json.loads(body)["files"]]})
        elif self.path.endswith("/info/lfs/objects/batch"):
            self.reply(200, {"objects": [self.action(o) for o in json.loads(body)["objects"]]})
        elif self.path.startswith(("/v1/xorbs/", "/v1/shards")):
            with hub.lock:
                hub.xet_bytes += len(body)
            self.reply(200, {"was_inserted": True, "result": 1})
        elif "/commit/" in self.path:
            with hub.lock:
                hub.commit([json.loads(line) for line in body.splitlines()])
            oid = f"{len(hub.commits):040x}"
            url = f"{hub.url}{self.path.partition('/commit/')[0].removeprefix('/api')}/commit/{oid}"
            self.reply(200, {"commitOid": oid, "commitUrl": url, "success": True})
        else:
            self.reply(404, {"error": self.path})

    def create(self, wanted):
        repo = f"{wanted['organization']}/{wanted['name']}"
        known = repo in self.hub.private
        self.hub.private.setdefault(repo, wanted.get("visibility") == "private")
        self.reply(409 if known else 200, {"url": f"{self.hub.url}/datasets/{repo}", "error": "exists"})

    def mode(self, file):
        path = file["path"]
        large = path.endswith(".parquet") or file["size"] >= REGULAR_BYTES
        mode = "lfs" if large else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": self.hub.oid(path)}

    def action(self, wanted):
        if wanted["oid"] in self.hub.stored:
            return wanted
        return {**wanted, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}"}}}

    def do_PUT(self):
        hub, body = self.hub, self.body()
        with hub.lock:
            refused = hub.refuse_after is not None and len(hub.uploads) >= hub.refuse_after
            if not refused:
                assert hashlib.sha256(body).hexdigest() == self.path.rpartition("/")[2]
                hub.stored[self.path.rpartition("/")[2]] = body
                hub.uploads.append(self.path.rpartition("/")[2])
        self.reply(403 if refused else 200, {})


@contextmanager
def serving():
    """A running server; its Hub."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
