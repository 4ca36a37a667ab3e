"""A headless Chromium, spoken to over its remote debugging protocol: pages are opened, sized, asked and pictured."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--remote-allow-origins=*"]


class Page:
    """One open page; ``errors`` are the exceptions and refusals of its console, ``hear`` gets all that it tells."""

    def __init__(self, socket: Any, hear: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
        self._socket, self._ids, self.errors, self._hear = socket, itertools.count(1), [], hear
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command of the protocol and returns its result."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        self._hear(message)
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(message["params"]["exceptionDetails"])
        entry = message.get("params", {}).get("entry", {})
        if message.get("method") == "Log.entryAdded" and entry["level"] == "error":
            self.errors.append(entry)

    def ask(self, expression: str) -> Any:
        """Evaluates JavaScript in the page; a promise is waited for."""
        found = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 30) -> Any:
        """Asks until the answer is true; returns it."""
        end = time.monotonic() + seconds
        while not (found := self.ask(expression)):
            assert time.monotonic() < end, f"{expression} stays {found!r}; errors: {self.errors}"
            time.sleep(0.05)
        return found

    def size(self, width: int, height: int = 800) -> None:
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, **features: str) -> None:
        """Sets media features such as ``prefers-color-scheme``, with underscores for hyphens."""
        told = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.send("Emulation.setEmulatedMedia", features=told)

    def open(self, address: str) -> None:
        self.send("Page.navigate", url=address)
        self.wait_for("document.readyState === 'complete'")

    def picture(self, file: Path) -> None:
        """Writes a PNG of the whole page."""
        made = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(made["data"]))

    def pdf(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.send("Page.printToPDF")["data"]))


@contextmanager
def browser(profile: Path, hear: Callable[[dict[str, Any]], None] = lambda _: None) -> Iterator[Page]:
    """Starts Chromium with an empty profile in the folder; it is ended with the block."""
    from websockets.sync.client import connect

    assert CHROMIUM is not None
    command = [CHROMIUM, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = _port(profile / "DevToolsActivePort", process)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
            address = next(one for one in json.load(answer) if one["type"] == "page")["webSocketDebuggerUrl"]
        with connect(address, max_size=None, compression=None) as socket:
            yield Page(socket, hear)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _port(file: Path, process: subprocess.Popen[bytes]) -> int:
    end = time.monotonic() + 60
    while not (file.exists() and file.read_text().count("\n")):
        assert process.poll() is None, "Chromium ended"
        assert time.monotonic() < end, "Chromium does not answer"
        time.sleep(0.05)
    return int(file.read_text().splitlines()[0])
