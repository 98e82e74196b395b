"""Published settings: rows that name their source, agree with our configs, and tell a run how it departs."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from kasa_corda.errors import DataError
from kasa_corda.paper.hyperparameters import (
    KEYS,
    deviations,
    hyperparameters_of,
    lookup,
    published_learning_rate,
    read_hyperparameters,
)
from kasa_corda.paper.published import read_published

CONFIGS = Path(__file__).parents[1] / "configs"
ROWS = read_hyperparameters()
RTE = lookup("kasa", "roberta_base", "glue/rte", "kasa")


def test_every_row_names_configs_and_a_source():
    for row in ROWS:
        for group, name in (("model", row.model), ("task", row.task), ("method", row.method)):
            assert (CONFIGS / group / f"{name}.yaml").is_file(), (group, name)
        assert len(row.source) > 15


def test_values_lie_in_their_ranges():
    for row in ROWS:
        for name, low, high in (
            ("rank", 1, 512),
            ("learning_rate", 1e-6, 1e-2),
            ("epochs", 1, 100),
            ("warmup", 0, 500),
        ):
            value = getattr(row, name)
            assert value is None or low <= value <= high, (row, name)


def test_the_log_of_a_run_comes_before_its_script():
    assert (RTE.beta, RTE.gamma) == (0.01, 1e-5)  # the script says 0.24 and 2.4e-4
    assert {(r.beta, r.gamma) for r in ROWS if r.task == "glue/rte" and r.model == "roberta_base" and r.beta} == {
        (0.01, 1e-5),
        (0.24, 2.4e-4),
    }


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.paper == "kasa" and row.kind == "log"], ids=lambda row: f"{row.model}-{row.task}"
)
def test_our_configs_repeat_the_published_settings(row):
    config = yaml.safe_load((CONFIGS / "hparams/paper/kasa" / row.model / f"{row.task}.yaml").read_text())
    for key, value in row.settings.items():
        group, _, name = key.partition(".")
        if key in ("selection", "method.variant") or name not in config.get(group, {}):
            continue
        ours = config[group][name]
        assert str(ours) == str(value) or float(ours) == value, key


def test_what_the_paper_leaves_open_comes_from_the_code():
    found = lookup("corda", "llama2_7b", "metamath", "corda_kpa")
    assert (found.rank, found.learning_rate, found.max_length) == (128, 2e-5, 512)
    assert "max_length" in found.source and "iboing/CorDA" in found.source


def test_a_cell_brings_its_own_rank_and_calibration():
    cell = next(c for c in read_published() if c.table == "figure3b" and c.method == "corda_ipa" and c.task == "gsm8k")
    assert hyperparameters_of(cell).rank == 32 and published_learning_rate(cell) == 2e-5


def test_a_mean_over_tasks_has_the_settings_of_each():
    mean = next(c for c in read_published() if (c.task, c.method) == ("mean:table1", "kasa"))
    assert hyperparameters_of(mean) is None
    assert published_learning_rate(mean, "glue/stsb") == 3e-4


def test_nothing_is_known_of_an_unpublished_setting():
    assert lookup("kasa", "roberta_base", "glue/rte", "lora") is None
    assert deviations({"method.rank": 3}, None) == ()


def test_a_run_as_published_has_no_deviation():
    settings = {"model.name": RTE.model, "task.name": RTE.task, "trainer.max_steps": None, **RTE.settings}
    assert deviations(settings, RTE) == ()


def test_deviations_are_plain_sentences():
    settings = {
        **RTE.settings,
        "model.name": "minilm",
        "method.rank": 16,
        "trainer.max_steps": 200,
        "trainer.learning_rate": 1e-3,
        "trainer.head_learning_rate": None,
        "selection": "held_out",
    }
    assert deviations(settings, RTE) == (
        "minilm instead of roberta_base",
        "trained 200 steps instead of 100 epochs",
        "rank 16 instead of 8",
        "learning rate 0.001 instead of 0.0004",
        "learning rate of the head 0.001 instead of 0.0004",
        "epoch chosen on held-out training examples instead of on the evaluation set",
    )


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, value in RTE.settings.items() if key != "selection"])
def test_every_changed_setting_is_told_once(key, value):
    changed = value * 2 if isinstance(value, int | float) and value else "other" if isinstance(value, str) else 0.5
    told = deviations({**RTE.settings, key: changed}, RTE)
    assert len(told) == 1 and (key == "trainer.epochs" or f"{changed:g}" in told[0] if changed != "other" else True)


def test_what_the_source_does_not_state_is_not_compared():
    bare = replace(RTE, **dict.fromkeys(KEYS))
    assert deviations({**RTE.settings, "method.rank": 99, "trainer.max_steps": 5}, bare) == ()


def test_fewer_training_examples_are_told():
    found = lookup("corda", "llama2_7b", "metamath", "lora")
    settings = {**found.settings, "task.name": "metamath"}
    assert deviations(settings, found) == ()
    assert deviations({**settings, "task.first": None}, found) == (
        "trained on all examples instead of the first 100,000",
    )


def test_a_plain_decomposition_has_no_calibration_to_depart_from():
    found = lookup("corda", "llama2_7b", "wikitext2", "discarded")
    assert deviations({"calibration.samples": 64}, found) == ("64 calibration samples instead of 256",)
    assert deviations({"calibration.samples": 64, "method.decomposition": "plain"}, found) == ()


def test_a_wrong_table_is_refused(tmp_path):
    file = tmp_path / "h.csv"
    head = "paper,model,task,method,kind,source,rank\n"
    for text, words in (
        (head.replace("rank", "rnak"), "unknown column rnak; the nearest is rank"),
        (head + "kasa,m,t,kasa,log,s,eight\n", "line 2: rank='eight' is no number"),
        (head + "kasa,m,t,kasa,blog,s,8\n", "kind='blog'"),
        (head + "kasa,,t,kasa,log,s,8\n", "model is empty"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=words):
            read_hyperparameters(file)
