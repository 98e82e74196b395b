"""Suites: their files, what they include, and what the two protocols make of their lines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kasa_corda.cli import help as help_page
from kasa_corda.cli.suites import FAIR, abouts, read_suite, suite_lines
from kasa_corda.errors import ConfigError


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a suite's text into a folder of suites."""
    (tmp_path / "suite").mkdir()
    for module in ("suites", "explain"):
        monkeypatch.setattr(f"kasa_corda.cli.{module}.CONFIGS", tmp_path)
    return lambda name, text: (tmp_path / "suite" / f"{name}.yaml").write_text(text)


def test_a_line_of_compare_is_run_at_the_given_rate_and_searched_with_other_seeds(write) -> None:
    write("mine", "shared: task=reviews\nsweep: [method=base]\ncompare: [method=kasa, method=lora]\n")
    lines = read_suite("mine").lines
    assert lines[0] == ["task=reviews", "method=base"]
    assert lines[1:] == [
        ["task=reviews", method, *ending.split()] for method in ("method=kasa", "method=lora") for ending in FAIR
    ]
    fresh, searching = (dict(part.split("=") for part in ending.split()) for ending in FAIR)
    assert searching["trainer.learning_rate"] == "search"
    assert searching["tuned_seeds"] == fresh["seed"]
    assert not set(searching["seed"].split(",")) & set(fresh["seed"].split(","))


def test_as_published_is_one_setting_chosen_on_the_evaluation_set(write) -> None:
    write("mine", "compare: [method=kasa]\n")
    write("other", "compare: [method=kasa]\npublished: ['seed=1,2,3']\n")
    given = ["suite=mine", "protocol=as_published", "dry_run=true"]
    assert suite_lines(given) == [["method=kasa", "selection=paper", "seed=0", "dry_run=true"]]
    assert read_suite("other", "as_published").lines == [["method=kasa", "seed=1,2,3"]]
    with pytest.raises(ConfigError, match=r"protocol=published is unknown; did you mean as_published\?"):
        suite_lines(["suite=mine", "protocol=published"])


def test_included_suites_come_first_and_a_line_of_several_is_one_line(write) -> None:
    write("one", "sweep: [seed=1, seed=2]\nclaims: [a, b]\n")
    write("two", "include: [one]\nsweep: [seed=3, seed=1]\nclaims: [b, c]\nabout: Two of them\n")
    found = read_suite("two")
    assert found.lines == [["seed=1"], ["seed=2"], ["seed=3"]]
    assert (found.claims, found.about, found.include) == (("a", "b", "c"), "Two of them", ("one",))
    assert suite_lines(["suite=one,two"]) == found.lines


def test_suites_that_include_each_other_are_refused_with_the_circle(write) -> None:
    write("a", "include: [b]\n")
    write("b", "include: [c]\n")
    write("c", "include: [a]\n")
    with pytest.raises(ConfigError, match="in a circle: a -> b -> c -> a"):
        read_suite("a")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("sweeps: [seed=1]", r"mine\.yaml has an unknown key sweeps; did you mean sweep\?"),
        ("sweep: method=kasa", r"mine\.yaml must hold sweep: a list of override lines"),
        ("sweep: [1, 2]", "must hold sweep: a list of override lines"),
        ("compare: [seed=1]\nclaims: a", "must hold claims: a list of names"),
        ("sweep: [seed=1]\nabout: [a]", "must hold about: a text"),
        ("about: nothing", r"must hold sweep: .*, or compare: or include:"),
        ("- seed=1", r"must hold sweep:"),
        ("sweep: [", "is not YAML"),
        ("include: [smok]", r"include=smok is unknown"),
    ],
)
def test_what_is_wrong_with_a_suite_s_file_is_said_with_its_name(write, text: str, wrong: str) -> None:
    write("mine", text + "\n")
    with pytest.raises(ConfigError, match=wrong):
        read_suite("mine")


def test_every_shipped_suite_says_in_one_line_what_it_is_about() -> None:
    for name, about in abouts():
        assert about == read_suite(name).about, name
        assert 20 < len(about) < 140, name


def test_the_help_page_lists_the_suites_with_what_they_are_about() -> None:
    from hydra.core.config_store import ConfigStore

    from kasa_corda.config import register

    register(ConfigStore.instance())
    page = help_page.help_text([])
    words = re.sub(r"\s+", " ", page)
    for name, about in abouts():
        assert f" {name} {about}" in words
