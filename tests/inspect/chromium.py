"""A headless Chromium driven over its DevTools protocol (https://chromedevtools.github.io/devtools-protocol/)."""

import base64
import contextlib
import json
import shutil
import subprocess
import time
from pathlib import Path

import aiohttp

PROGRAM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


class Tab:
    """One page: what it evaluates to, what it logs, what it asks of any network."""

    def __init__(self, socket):
        self._socket = socket
        self._number = 0
        self.requests: list[str] = []
        self.logged: list[str] = []

    async def send(self, method, **params):
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        while True:
            message = json.loads((await self._socket.receive(timeout=60)).data)
            if message.get("id") == self._number:
                assert "error" not in message, (method, message)
                return message["result"]
            self._note(message)

    def _note(self, message):
        params = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif message.get("method") == "Log.entryAdded":
            self.logged.append(params["entry"]["text"])
        elif message.get("method") == "Runtime.exceptionThrown":
            self.logged.append(json.dumps(params["exceptionDetails"]))

    async def open(self, url):
        """Load a page; returns the milliseconds until it was loaded and drawn, as the browser counts them."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.send(f"{domain}.enable")
        await self.send("Page.navigate", url=url)
        for _ in range(600):
            if await self.value("document.readyState") == "complete":
                break
            time.sleep(0.05)
        return await self.value("performance.getEntriesByType('navigation')[0].loadEventEnd")

    async def value(self, script):
        result = await self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def press(self, key):
        await self.send("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
        await self.send("Input.dispatchKeyEvent", type="keyUp", key=key)
        await self.drawn()

    async def turn(self, hash):
        """Go to another place of the page."""
        await self.value(f"location.hash = {json.dumps(hash)}")
        await self.drawn()

    async def drawn(self):
        """The page turns to a new hash in an event of its own, and draws after that."""
        await self.value("new Promise(done => requestAnimationFrame(() => setTimeout(done, 0)))")

    async def size(self, width, height, dark=False):
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[theme])

    async def picture(self, path):
        await self.value("new Promise(done => setTimeout(done, 300))")
        shot = await self.send("Page.captureScreenshot")
        Path(path).write_bytes(base64.b64decode(shot["data"]))


@contextlib.asynccontextmanager
async def chromium(folder):
    """A Tab of a fresh browser, whose profile lies in `folder`; the browser ends with it."""
    command = [PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += ["--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = Path(folder) / "DevToolsActivePort"
        for _ in range(600):
            if port.exists() and port.read_text().count("\n"):
                break
            time.sleep(0.05)
        address = f"http://127.0.0.1:{port.read_text().splitlines()[0]}/json/list"
        async with aiohttp.ClientSession() as session:
            pages = await (await session.get(address)).json(content_type=None)
            where = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
            async with session.ws_connect(where, max_msg_size=0) as socket:
                yield Tab(socket)
    finally:
        browser.terminate()
        browser.wait(30)
