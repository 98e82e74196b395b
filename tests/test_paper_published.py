"""The printed numbers as data: types, ranges, names, and averages recomputed from their own rows."""

from pathlib import Path

import pytest

from kasa_corda.errors import DataError
from kasa_corda.paper.published import (
    FOREIGN,
    TABLE,
    UNITS,
    Cell,
    inconsistent_means,
    mean_checks,
    members,
    read_published,
    unknown_cells,
)

CONFIGS = Path(__file__).parents[1] / "configs"
CELLS = read_published()
HEADER = "paper,table,model,task,metric,method,value\n"


def configs(group: str) -> set[str]:
    return {str(file.relative_to(CONFIGS / group))[:-5] for file in (CONFIGS / group).rglob("*.yaml")}


@pytest.mark.parametrize("group", ["model", "method", "task"])
def test_every_name_is_a_config_or_declared_foreign(group):
    names = {getattr(cell, group) for cell in CELLS} | ({c.run_task for c in CELLS} if group == "task" else set())
    names = {name for name in names if not name.startswith("mean:")}
    assert names - configs(group) == set(FOREIGN[group])


def test_both_papers_and_all_kinds_of_sources_are_there():
    assert {cell.paper for cell in CELLS} == {"kasa", "corda"}
    assert {cell.kind for cell in CELLS} == {"paper", "authors", "third_party"}
    assert all(len(cell.source) > 10 for cell in CELLS)


def test_every_number_lies_in_the_range_of_its_unit():
    limits = {"percent": (0, 100), "fraction": (0, 1), "marks": (0, 10), "points": (0, 1000)}
    for cell in CELLS:
        if cell.number is not None:
            low, high = limits[cell.unit]
            assert low < cell.number < high, cell
            assert (float(cell.std) if cell.std else 0) < cell.number / 2, cell
    assert set(limits) == set(UNITS)


def test_no_number_stands_there_twice():
    keys = [(*c.row, c.task, c.metric) for c in CELLS]
    assert len(keys) == len(set(keys))


def test_printed_text_keeps_its_decimals():
    found = [c for c in CELLS if (c.table, c.method, c.task) == ("table1a", "full", "gsm8k")]
    assert [(c.value, c.decimals, c.number) for c in found] == [("48.90", 2, 48.9)]


def test_a_score_beside_training_has_the_key_of_our_runs():
    cell = next(c for c in CELLS if (c.table, c.method, c.task) == ("table1a", "corda_kpa", "gsm8k"))
    assert (cell.run_task, cell.run_metric) == ("metamath", "gsm8k_exact_match")
    assert cell.conditions["method.rank"] == 128 and cell.conditions["calibration.source"] == "nq_open"
    glue = next(c for c in CELLS if (c.table, c.method, c.task) == ("table3", "lora", "glue/cola"))
    assert (glue.run_task, glue.run_metric) == ("glue/cola", "matthews")


def test_conditions_are_keys_of_a_config():
    groups = {key.partition(".")[0] for cell in CELLS for key in cell.conditions}
    assert groups <= {"method", "calibration"}


def test_unknown_cells_are_known_to_exist_and_have_no_number():
    unknown = unknown_cells(CELLS)
    assert all("not found" in cell.source or "too large" in cell.source for cell in unknown)
    assert {"e2e", "mt_bench", "components", "ranks"} <= {cell.table for cell in unknown}
    assert not [c for c in unknown if c.paper == "corda"]


def test_every_set_of_numbers_for_the_same_thing_is_kept():
    gsm8k = {c.table: c.value for c in CELLS if (c.model, c.task, c.method) == ("llama2_7b", "gsm8k", "corda_kpa")}
    assert gsm8k["table1a"] == "44.58" and gsm8k["readme"] == "45.64" and gsm8k["peft_kpm"] == "46.32"


def test_printed_averages_are_those_of_their_rows_but_for_two():
    checks = mean_checks(CELLS)
    assert len(checks) > 30
    wrong = {(c.cell.table, c.cell.method, round(c.recomputed, 2)) for c in inconsistent_means(CELLS)}
    assert wrong == {("third_party_glue", "full", 81.55), ("third_party_glue", "corda_ipa", 82.85)}


def test_a_mean_that_rounding_explains_is_consistent_and_the_next_digit_is_not():
    def cell(task: str, value: str) -> Cell:
        return Cell("x", "t", "m", task, "accuracy", "lora", None, value, "", "s")

    row = [cell("a", "80.0"), cell("b", "81.5")]
    assert not inconsistent_means([*row, cell("mean:t", "80.8")])
    assert inconsistent_means([*row, cell("mean:t", "81.0")])


def test_the_members_of_a_mean_are_its_row():
    mean = next(c for c in CELLS if (c.task, c.method) == ("mean:table3", "dora"))
    assert len(members(mean, CELLS)) == 6 and {c.method for c in members(mean, CELLS)} == {"dora"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("paper,table\nx,y\n", "no column model"),
        (HEADER + "x,t,m,k,acc,lora,8O.2\n", "line 2: value='8O.2' is no number"),
        (HEADER + "x,t,,k,acc,lora,80.2\n", "line 2: model is empty"),
        (HEADER.replace("\n", ",kind\n") + "x,t,m,k,acc,lora,80.2,authers\n", "none of authors"),
        (HEADER.replace("\n", ",parameters\n") + "x,t,m,k,acc,lora,80.2,few\n", "parameters='few'"),
    ],
)
def test_a_wrong_file_is_refused_with_line_and_column(tmp_path, text, words):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        read_published(tmp_path / "a.csv")


def test_any_csv_with_the_needed_columns_can_be_read(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER.replace("\n", ",parameters\n") + "x,t,m,k,acc,lora,80.2,0.3M\n")
    (cell,) = read_published(tmp_path / "a.csv")
    assert (cell.number, cell.parameters, cell.kind, cell.unit) == (80.2, 300_000, "paper", "percent")


def test_the_files_ship_with_the_package():
    import tomllib

    patterns = tomllib.loads((CONFIGS.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    package = CONFIGS.parent / "kasa_corda"
    shipped = {file for pattern in patterns["kasa_corda"] for file in package.glob(pattern)}
    assert {TABLE, TABLE.with_name("claims.yaml"), TABLE.with_name("hyperparameters.csv")} <= shipped
