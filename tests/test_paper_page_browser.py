"""The page in headless Chromium (skipped without one): no error, no request, sorting, a phone's width, no scripts."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from paper_page import results_of, written

SCRIPT = Path(__file__).parents[1] / "scripts" / "screenshots.py"


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("screenshots", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["screenshots"] = module
    spec.loader.exec_module(module)
    return module


screenshots = loaded()
pytestmark = pytest.mark.skipif(screenshots.found_browser() is None, reason="no Chromium with chromedriver on PATH")

CELLS = """return [...document.querySelectorAll('[data-runs]')].map(cell =>
  ({ value: cell.dataset.value, runs: cell.dataset.runs, path: cell.dataset.path, times: cell.dataset.times || '1',
     text: cell.textContent }));"""
TOO_WIDE = """const wide = document.documentElement.clientWidth;
return [document.documentElement.scrollWidth, wide, [...document.querySelectorAll('body *')].filter(element =>
  !element.closest('.scroll, svg, .skip, .unseen') && element.getBoundingClientRect().right > wide + 1)
  .map(element => element.tagName + '.' + element.className)];"""
CONTRAST = """const light = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
return [light(getComputedStyle(document.body).backgroundColor), light(getComputedStyle(document.body).color)];"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    folder = tmp_path_factory.mktemp("browser")
    path = written(folder)
    with screenshots.opened(path) as opened:
        yield opened, folder


def test_there_is_no_error_and_no_request(page: tuple[Any, Path]) -> None:
    opened, _ = page
    assert opened.log("browser") == []
    here = opened.run("return location.href")
    events = [m["params"] for m in opened.log("performance") if m["method"] == "Network.requestWillBeSent"]
    sent = [event["request"]["url"] for event in events if event["documentURL"] == here]
    assert [url for url in sent if not url.startswith("data:")] == [here]


def test_numbers_in_the_browser_are_those_of_the_run_store(page: tuple[Any, Path]) -> None:
    opened, folder = page
    results = results_of([folder / "runs"])
    cells = opened.run(CELLS)
    assert len(cells) > 60
    for cell in cells:
        values = []
        first, second, *rest = cell["path"].split(".")
        for run in cell["runs"].split():
            found = results[run][first][second]
            values.append(found[".".join(rest)] if rest else found)
        assert float(cell["value"]) == pytest.approx(float(cell["times"]) * sum(values) / len(values), rel=1e-9)


def test_a_column_sorts_by_its_button_and_says_so(page: tuple[Any, Path]) -> None:
    opened, _ = page
    table = "document.querySelector('table[id^=scores]')"
    column = opened.run(f"return [...{table}.querySelectorAll('.names th')].findIndex(h => h.matches('.number'))")
    values = f"return [...{table}.tBodies[0].rows].map(r => r.cells[{column}].dataset.value ?? null)"
    button = f"{table}.querySelectorAll('.names th')[{column}].querySelector('button')"
    for order in ("descending", "ascending"):
        opened.run(f"{button}.focus(); {button}.click()")
        assert opened.run(f"return {button}.parentNode.getAttribute('aria-sort')") == order
        found = [float(value) for value in opened.run(values) if value is not None]
        assert found == sorted(found, reverse=order == "descending") and len(set(found)) > 2
    assert (
        opened.run(f"return {button}.tagName + {button}.type + (document.activeElement === {button})")
        == "BUTTONbuttontrue"
    )


def test_nothing_is_wider_than_a_phone_but_tables_that_scroll(page: tuple[Any, Path]) -> None:
    opened, _ = page
    opened.size(390, 844)
    opened.run("for (const fold of document.querySelectorAll('details')) fold.open = true;")
    wide, screen, beyond = opened.run(TOO_WIDE)
    opened.size(1280, 900)
    assert (screen, beyond) == (390, []) and wide <= screen


def test_dark_and_light_follow_the_system_and_the_button(page: tuple[Any, Path]) -> None:
    opened, _ = page
    found = {}
    for dark in (True, False):
        opened.dark(dark)
        found[dark] = opened.run(CONTRAST)
    assert sum(found[True][0]) < 150 < 600 < sum(found[False][0])
    opened.run("document.querySelector('button.theme').click()")
    assert opened.run(CONTRAST) == found[True]
    opened.run("document.querySelector('button.theme').click()")
    assert opened.run(CONTRAST) == found[False]


def test_the_first_tab_leads_past_the_navigation(page: tuple[Any, Path]) -> None:
    opened, _ = page
    assert opened.run("return document.querySelector('a, button, [tabindex]').className") == "skip"
    assert opened.run("return document.querySelector('.skip').getAttribute('href')") == "#main"
    assert opened.run("return [...document.querySelectorAll('.scroll')].every(s => s.tabIndex === 0)")


def test_without_scripts_everything_is_there(page: tuple[Any, Path]) -> None:
    opened, folder = page
    count = len(opened.run(CELLS))
    opened.log("browser")
    opened.scripts(False)
    opened.open(folder / "report" / "index.html")
    assert opened.run("return document.querySelectorAll('button').length") == 0
    assert len(opened.run(CELLS)) == count
    assert opened.log("browser") == []
    opened.scripts(True)


def test_the_set_of_pictures_is_made(page: tuple[Any, Path], tmp_path: Path) -> None:
    _, folder = page
    found = screenshots.pictures(folder / "report" / "index.html", tmp_path)
    assert [path.name for path in found] == ["desktop.png", "dark.png", "phone.png", "print.pdf"]
    assert all(path.stat().st_size > 20_000 for path in found)
