"""The cells of the shipped suites: how many the pocket suites have, and that the papers' compose."""

from __future__ import annotations

import pytest
import yaml
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from kasa_corda.cli.cells import checked_cells
from kasa_corda.cli.explain import CONFIGS
from kasa_corda.cli.search import search_size
from kasa_corda.cli.suites import PROTOCOLS, read_suite
from kasa_corda.config import register
from kasa_corda.launch import prepare

CLAIMS = CONFIGS.parent / "kasa_corda" / "paper" / "claims.yaml"


@pytest.fixture(scope="module")
def hydra():
    register(ConfigStore.instance())
    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="run"):
        yield GlobalHydra.instance().hydra


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KASA_CORDA_DATA", raising=False)


def first(line: list[str]) -> list[str]:
    """The first value of every override of a line."""
    return [f"{o.partition('=')[0]}={o.partition('=')[2].split(',')[0]}" if "[" not in o else o for o in line]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_line_of_the_papers_suites_parses(protocol: str) -> None:
    parser = OverridesParser.create()
    for name in ("paper", "pocket", "smoke"):
        for line in read_suite(name, protocol).lines:
            assert parser.parse_overrides(line)
            assert any(override.startswith("method=") for override in line), line


def test_a_cell_of_each_table_composes(hydra) -> None:
    for name in read_suite("kasa").include + read_suite("corda").include:
        line = read_suite(name, "as_published").lines[-1]
        cells = checked_cells(hydra, [first(line)])
        assert [cell.error for cell in cells] == [None], name


@pytest.mark.parametrize(
    ("name", "window", "searches", "fresh"),
    [
        # settings x (5 rates, searched with one seed); the rest of a search comes later
        ("pocket_corda", 10 * 5, 10, 10 * 3 + 3),
        ("pocket_e2e", 4 * 5, 4, 4 * 3),
        ("pocket_discarded", 0, 0, 28),
    ],
)
def test_the_pocket_suites_have_the_cells_that_their_headers_count(hydra, name, window, searches, fresh) -> None:
    cells = checked_cells(hydra, read_suite(name).lines)
    assert [cell.error for cell in cells if cell.error] == []
    assert len({cell.directory.path for cell in cells}) == len(cells) == window + fresh
    size = search_size(cells)
    assert (size.families, size.window) == (searches, window)
    header = (CONFIGS / "suite" / f"{name}.yaml").read_text()
    assert f"{len(cells) + size.refinements + size.fresh} runs" in header


def test_cells_that_differ_in_seed_and_rate_are_what_each_would_be_alone(hydra) -> None:
    cells = checked_cells(hydra, [["method=kasa", "trainer.learning_rate=3e-4,1e-3", "seed=7,8", "task=glue/rte"]])
    assert len(cells) == 4
    for cell in cells:
        config, directory = prepare(cell.plain)
        assert (config, directory.path) == (cell.config, cell.directory.path)


def test_the_claims_that_suites_name_exist_and_every_pocket_claim_has_a_suite() -> None:
    claims = yaml.safe_load(CLAIMS.read_text(encoding="utf-8"))["claims"]
    assert set(read_suite("paper").claims) | set(read_suite("pocket").claims) <= {claim["id"] for claim in claims}
    assert {claim["id"] for claim in claims if claim.get("pocket")} <= set(read_suite("pocket").claims)


@pytest.mark.heavy
def test_every_cell_of_the_papers_suite_composes(hydra) -> None:
    cells = checked_cells(hydra, read_suite("paper").lines)
    assert [cell.error for cell in cells if cell.error] == []
    assert len(cells) > 8000


def test_a_run_that_several_lines_ask_for_is_one_cell_with_the_seeds_of_all(hydra) -> None:
    line = ["method=lora", "task=reviews", "trainer.learning_rate=search", "seed=0"]
    cells = checked_cells(hydra, [[*line, "tuned_seeds=5,6"], [*line, "tuned_seeds=6,7"]])
    assert len(cells) == 5
    assert {cell.tuned_seeds for cell in cells} == {(5, 6, 7)}
