"""The list of methods, groups of methods in a sweep, and each method's grid of learning rates."""

from __future__ import annotations

import csv
import io
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra

from kasa_corda.cli.cells import checked_cells
from kasa_corda.cli.expand import expanded
from kasa_corda.cli.explain import CONFIGS, group_options
from kasa_corda.config import register
from kasa_corda.methods import METHODS
from kasa_corda.methods.groups import GROUPS, absence, members
from kasa_corda.methods.unavailable import UNAVAILABLE
from kasa_corda.store import find_runs

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))


@pytest.fixture
def hydra():
    register(ConfigStore.instance())
    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="run"):
        yield GlobalHydra.instance().hydra


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """A registry of few methods, so that whole lists take seconds."""
    names = ("bitfit", "corda_kpa", "full", "kasa", "lora", "probe", "vera")
    METHODS.names()
    monkeypatch.setattr(METHODS, "_classes", {name: METHODS[name] for name in names})
    return names


def test_the_list_has_every_method_with_its_facts_and_its_parameters(few, capsys):
    import methods as script

    assert script.main(["model=roberta_base", "method.rank=4"]) == 0
    page = capsys.readouterr().out
    for name in (*few, *UNAVAILABLE):
        assert f"\n {name} " in page
    table = page.split("parameters: trained")[0].splitlines()
    lines = {line.split()[0]: line.split() for line in table if line.strip()}
    assert lines["lora"][-1] == "147,456"
    assert lines["kasa"][-1] == "147,552"
    assert lines["full"][-1] == "124,055,040"
    assert lines["bitfit"][-1] == "102,144"
    assert "the task head has 592,130 more" in page
    assert "bitfit refuses llama, mistral, gemma: its layers have no biases" in page
    assert "sara: definition not available: " in page
    assert max(map(len, table)) <= 160


def test_a_method_that_does_not_fit_the_model_has_the_reason_instead_of_a_number(few, capsys):
    import methods as script

    assert script.main(["model=llama3_2_1b", "--csv"]) == 0
    rows = {row["method"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert set(rows) == {*few, *UNAVAILABLE}
    assert rows["bitfit"]["parameters"] == ""
    assert "can't adapt llama models" in rows["bitfit"]["reason"]
    assert "a language model doesn't have" in rows["probe"]["reason"]
    assert int(rows["lora"]["parameters"]) > 0
    assert (rows["bitfit"]["decoder"], rows["probe"]["decoder"]) == ("not llama, mistral, gemma", "with a task head")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["method=lora"], "this lists all methods"),
        (["method.rnk=4"], "did you mean rank"),
        (["model=robert"], "model=robert is unknown; did you mean roberta_base"),
    ],
)
def test_a_wrong_request_is_one_sentence(arguments, said, few, capsys):
    import methods as script

    assert script.main(arguments) == 2
    assert said in capsys.readouterr().err


def test_groups_name_methods_that_are_registered_or_known_to_be_missing():
    for group in GROUPS.values():
        assert len(set(group.methods)) == len(group.methods)
        for name in group.methods:
            assert absence(name) is None or name in UNAVAILABLE
    assert not set(UNAVAILABLE) & set(METHODS.names())
    assert not {*GROUPS, "all"} & {*METHODS.names(), *group_options("method")}


def test_a_group_stands_for_its_methods_and_says_which_can_not_run():
    line = expanded(["task=reviews", "method=kasa_e2e,dora", "seed=0,1"])
    names = line.overrides[1].removeprefix("method=").split(",")
    assert names == [*(name for name in GROUPS["kasa_e2e"].methods if name != "sara"), "dora"]
    assert line.overrides[::2] == ["task=reviews", "seed=0,1"]
    assert line.absent["sara"].startswith("definition not available: SARA")
    assert line.optional == {*names} - {"dora"}
    assert members("all") == tuple(name for name in METHODS.names() if METHODS[name].trains)
    assert expanded(["method=lora"]).overrides == ["method=lora"]


def test_all_leaves_out_what_does_not_fit_model_or_task_and_a_named_method_fails(few, hydra):
    sweep = ["method=all", "model=llama3_2_1b", "task=gsm8k"]
    cells = {cell.plain["method"]["name"]: cell for cell in checked_cells(hydra, [sweep])}
    assert set(cells) == set(few)
    assert {name for name, cell in cells.items() if cell.left_out} == {"bitfit", "probe"}
    assert not any(cell.error for cell in cells.values())
    named = {c.plain["method"]["name"]: c for c in checked_cells(hydra, [["method=all,probe", *sweep[1:]]])}
    assert named["bitfit"].left_out
    assert named["probe"].error and not named["probe"].left_out


def test_another_mistake_is_no_reason_to_leave_a_method_out(few, hydra):
    (cell, *_) = checked_cells(hydra, [["method=all", "model=minilm", "trainer.batch_size=-1"]])
    assert "trainer.batch_size=-1 must be at least 1" in (cell.error or "")


def test_the_grid_is_the_method_s_own(few, hydra):
    cells = checked_cells(hydra, [["method=lora,probe", "trainer.learning_rate=grid", "seed=0,1", "task=reviews"]])
    for name in ("lora", "probe"):
        rates = [cell.plain["trainer"]["learning_rate"] for cell in cells if cell.plain["method"]["name"] == name]
        assert sorted(rates) == sorted(2 * METHODS[name].LEARNING_RATES)
    assert len({cell.directory.path for cell in cells}) == len(cells)
    assert not any("grid" in override for cell in cells for override in cell.overrides)


def test_the_last_learning_rate_counts(few, hydra):
    lines = [["method=lora", "trainer.learning_rate=grid", "trainer.learning_rate=0.5"]]
    assert [cell.plain["trainer"]["learning_rate"] for cell in checked_cells(hydra, lines)] == [0.5]


@pytest.mark.parametrize("name", members("all"))
def test_every_grid_is_wide_enough_for_a_fair_comparison(name):
    rates = METHODS[name].LEARNING_RATES
    steps = [later / earlier for earlier, later in pairwise(rates)]
    assert len(rates) >= max(len(METHODS[own].LEARNING_RATES) for own in ("kasa", "corda_kpa", "corda_ipa"))
    assert min(steps) > 1.9 and max(steps) < 5.1
    assert rates[-1] >= 50 * rates[0]


def test_one_command_sweeps_methods_over_their_grids_and_the_report_chooses(run_py):
    done = run_py("-m", "method=lora", "trainer.learning_rate=grid", "trainer.max_steps=2", "trainer.batch_size=8")
    assert done.returncode == 0, done.stderr
    rates = METHODS["lora"].LEARNING_RATES
    assert f"{len(rates)} of {len(rates)} cells finished" in done.stdout
    runs = find_runs(run_py.folder / "runs")
    assert sorted(run.config()["trainer"]["learning_rate"] for run in runs) == sorted(rates)
    table = run_py("runs", "--tuned", "learning_rate", module="kasa_corda.report")
    assert table.returncode == 0, table.stderr
    assert "learning_rate" in table.stdout
    single = run_py("method=all"), run_py("trainer.learning_rate=grid")
    assert [done.returncode for done in single] == [2, 2]
    assert all("names several values" in d.stderr or "names several methods" in d.stderr for d in single)
