"""Headless Chromium for page tests, spoken to over its debugging pipe: no driver, no package, no port."""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any

EXECUTABLE = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
    *("--hide-scrollbars", "--disable-extensions", "--remote-debugging-pipe", "about:blank"),
)
# Chromium reads commands from descriptor 3 and writes answers to 4.
_AS_3_AND_4 = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Chromium:
    """One page in one browser; a script error or a request that leaves the disk is remembered."""

    def __init__(
        self, profile_dir: Path, *, width: int = 1280, height: int = 900, is_dark: bool = False
    ) -> None:
        assert EXECUTABLE, "asked for without the `chromium` fixture"
        read_commands, self._commands = os.pipe()
        self._answers, write_answers = os.pipe()
        handles = (read_commands, write_answers)
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                _AS_3_AND_4,
                *map(str, handles),
                EXECUTABLE,
                f"--user-data-dir={profile_dir}",
                *FLAGS,
            ],
            pass_fds=handles,
            stderr=subprocess.DEVNULL,
        )
        for handle in handles:
            os.close(handle)
        self._buffer = b""
        self._last_id = 0
        self._session: str | None = None
        self._events: deque[dict[str, Any]] = deque(maxlen=2000)
        self.errors: list[str] = []
        self.requests: list[str] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(found["targetId"] for found in targets if found["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(width, height)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)

    def __enter__(self) -> "Chromium":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
        os.close(self._commands)
        os.close(self._answers)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its answer; events on the way are kept."""
        self._last_id += 1
        message: dict[str, Any] = {"id": self._last_id, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next_message()
            if answer.get("id") == self._last_id:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, page: Path, fragment: str = "") -> None:
        """Load the page from disk and wait until it has run its script."""
        self.go(page.resolve().as_uri() + (f"#{fragment}" if fragment else ""))

    def go(self, url: str) -> None:
        """Load the page at an address, the same way."""
        self._events.clear()
        self.call("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._next_message()

    def run(self, expression: str) -> Any:
        """The JSON value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"].get("description", "script error"))
        return found["result"].get("value")

    def wait_for(self, expression: str, limit_s: float = 10.0) -> Any:
        """The first value of an expression that is true; TimeoutError where it stays false."""
        ends = time.monotonic() + limit_s
        while not (found := self.run(expression)):
            if time.monotonic() > ends:
                raise TimeoutError(f"not within {limit_s:g} s: {expression}")
            time.sleep(0.03)
        return found

    def click(self, selector: str) -> None:
        """Press and release the mouse in the middle of an element, once it is in view."""
        place = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});"
            " const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        at = {"x": place[0], "y": place[1], "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, **at)

    def write(self, text: str) -> None:
        """Put text in where the cursor is, as an input method does."""
        self.call("Input.insertText", text=text)

    def press(self, key: str, text: str = "", *, with_control: bool = False) -> None:
        """One key down and up, as a person would press it."""
        codes = {"Enter": 13, "Tab": 9, " ": 32}
        common = {"key": key, "windowsVirtualKeyCode": codes.get(key, 0), **({"text": text} if text else {})}
        common["modifiers"] = 2 if with_control else 0
        self.call("Input.dispatchKeyEvent", type="keyDown", **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def resize(self, width: int, height: int) -> None:
        """Set the size of the page's window; a phone is 390 wide."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def screenshot(self, path: Path) -> None:
        """Write what the window shows as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def _next_message(self, limit_s: float = 60.0) -> dict[str, Any]:
        ends = time.monotonic() + limit_s
        while b"\0" not in self._buffer:
            if not select.select([self._answers], [], [], max(0.0, ends - time.monotonic()))[0]:
                raise TimeoutError(f"chromium said nothing for {limit_s:.0f} s")
            read = os.read(self._answers, 1 << 20)
            if not read:
                raise RuntimeError("chromium ended")
            self._buffer += read
        line, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self._remember(message["method"], message["params"])
            self._events.append(message)
        return message

    def _remember(self, method: str, parameters: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(parameters["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
