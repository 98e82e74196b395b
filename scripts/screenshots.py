"""Pictures of a report: desktop (1280 px), phone (390 px), dark, and a PDF as printed.

python scripts/screenshots.py runs/report/index.html --out runs/report/pictures

Needs Chromium (or Chrome) and its chromedriver.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync")
FLAGS += (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
DESKTOP, PHONE = (1280, 900), (390, 844)
TALLEST = 16_000
"""pixels of a picture; a longer page is cut"""


@dataclass
class Page:
    """A page in a browser that is driven by plain W3C WebDriver over HTTP."""

    address: str
    """of the WebDriver session"""

    def call(self, command: str, body: dict[str, Any] | None = None, method: str = "POST") -> Any:
        return _ask(f"{self.address}/{command}", body if method == "POST" else None, method)

    def open(self, path: Path) -> None:
        self.call("url", {"url": path.resolve().as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that a piece of JavaScript returns."""
        return self.call("execute/sync", {"script": script, "args": list(arguments)})

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self.call("goog/cdp/execute", {"cmd": command, "params": parameters})

    def log(self, kind: str) -> list[dict[str, Any]]:
        """Messages of the console ('browser') or of the network ('performance') since the last call."""
        found = self.call("se/log", {"type": kind})
        return [json.loads(entry["message"])["message"] for entry in found] if kind == "performance" else found

    def size(self, width: int, height: int) -> None:
        parameters = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.devtools("Emulation.setDeviceMetricsOverride", **parameters)

    def dark(self, on: bool) -> None:
        value = "dark" if on else "light"
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": value}])

    def scripts(self, on: bool) -> None:
        """Whether the page's own scripts run, from the next ``open`` on."""
        self.devtools("Emulation.setScriptExecutionDisabled", value=not on)

    def picture(self, path: Path, top: int = 0, height: int | None = None) -> Path:
        """The page from ``top`` on as PNG, whole (up to ``TALLEST``) or ``height`` pixels of it."""
        area = self.devtools("Page.getLayoutMetrics")["cssContentSize"]
        tall = min(height or TALLEST, max(1, int(area["height"]) - top))
        clip = {"x": 0, "y": top, "width": area["width"], "height": tall, "scale": 1}
        shot = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def pdf(self, path: Path) -> Path:
        printed = self.devtools("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        path.write_bytes(base64.b64decode(printed["data"]))
        return path


def found_browser() -> tuple[str, str] | None:
    """Paths of a browser and its driver, if both are there."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


@contextmanager
def opened(path: Path) -> Iterator[Page]:
    """A headless browser with the page loaded; it ends with the block."""
    found = found_browser()
    if found is None:
        raise SystemExit("error: no Chromium with chromedriver on PATH; install chromium and chromium-driver")
    browser, driver = found
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "HOME": folder, "TMPDIR": folder}
        process = subprocess.Popen(
            [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        page = None
        try:
            base = f"http://127.0.0.1:{_port(process)}"
            options = {"binary": browser, "args": [*FLAGS, f"--user-data-dir={folder}/profile"]}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
            session = _ask(f"{base}/session", {"capabilities": {"alwaysMatch": wanted}})
            page = Page(f"{base}/session/{session['sessionId']}")
            page.size(*DESKTOP)
            page.open(path)
            yield page
        finally:
            if page is not None:
                _ask(page.address, None, "DELETE")
            process.terminate()
            process.wait(timeout=20)


def _port(process: subprocess.Popen[str]) -> int:
    for line in process.stdout or ():
        if match := re.search(r"success\w* on port (\d+)", line):
            return int(match[1])
    raise SystemExit("error: chromedriver did not start")


def _ask(address: str, body: dict[str, Any] | None, method: str = "POST") -> Any:
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, content, {"Content-Type": "application/json"}, method=method)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=120) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise RuntimeError(json.load(error)["value"].get("message", "the browser refused")) from None


def pictures(path: Path, out: Path) -> list[Path]:
    """The whole set."""
    out.mkdir(parents=True, exist_ok=True)
    with opened(path) as page:
        found = [page.picture(out / "desktop.png")]
        page.dark(True)
        found.append(page.picture(out / "dark.png", height=4000))
        page.dark(False)
        page.size(*PHONE)
        found.append(page.picture(out / "phone.png"))
        page.size(*DESKTOP)
        found.append(page.pdf(out / "print.pdf"))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="index.html of a report")
    parser.add_argument("--out", type=Path, default=Path("pictures"), metavar="DIR", help="where to write")
    options = parser.parse_args(arguments)
    if not options.page.is_file():
        print(
            f"error: there is no page {str(options.page)!r}; make it with python -m kasa_corda.report.paper",
            file=sys.stderr,
        )
        return 2
    for path in pictures(options.page, options.out):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
