"""Verdicts over run stores: which runs are found, how they are compared, and what is said."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import make_run

from kasa_corda.errors import ConfigError
from kasa_corda.paper.claims import Claim, Part, Selector, read_claims
from kasa_corda.report.records import Outcome, RunRecord, read_runs
from kasa_corda.verdicts import judge
from kasa_corda.verdicts.conditions import matches, value_of
from kasa_corda.verdicts.verdict import ClaimVerdict, PartVerdict

TASK, MODEL = "glue/rte", "minilm"
BASE = (0.600, 0.612, 0.595, 0.607, 0.603)
SETTINGS = {
    "method.rank": 8,
    "task.name": TASK,
    "task.family": "glue",
    "task.metric": "accuracy",
    "trainer.learning_rate": 1e-3,
    "trainer.batch_size": 32,
    "evaluator.name": "classification",
}


def record(method: str, seed: int, score: float, *, task: str = TASK, select: float = 0.7, **options: Any) -> RunRecord:
    """A finished run in memory; ``options`` are record fields, ``settings`` adds to the config."""
    settings = {**SETTINGS, "method.name": method, "task.name": task, **options.pop("settings", {})}
    metric = options.pop("metric", "accuracy")
    test = options.pop("test", {metric: score})
    tested = options.get("tested", True)
    fields: dict[str, Any] = {
        "state": "finished",
        "task": task,
        "model": MODEL,
        "method": method,
        "label": method,
        "selection": "held_out",
        "scale": "pocket",
        "metric": metric,
        "best": Outcome(1, 1.0, {metric: select}, test if tested else {}),
        "config": {"task": {}, "method": {"name": method}},
        "fingerprints": {"data.fingerprint": f"d-{task}"},
        **options,
    }
    name = f"{method}-{task.replace('/', '_')}-{settings['trainer.learning_rate']:g}-{seed}-{tested}-{len(settings)}"
    return RunRecord(Path("runs") / name, seed=seed, settings=settings, **fields)


def runs(method: str, scores: Sequence[float], first: int = 0, **options: Any) -> list[RunRecord]:
    return [record(method, first + seed, score, **options) for seed, score in enumerate(scores)]


def moved(by: float, spread: float = 0.002) -> list[float]:
    """The reference's scores, better by about ``by``."""
    return [score + by + spread * turn for score, turn in zip(BASE, (-1, 1, 0.5, -0.5, 0), strict=True)]


KASA, LORA = Selector("KaSA", {"method": "kasa"}), Selector("LoRA", {"method": "lora"})


def part(kind: str = "above", ours: Selector = KASA, reference: Selector | None = LORA, **options: Any) -> Part:
    return Part(kind, ours, reference, MODEL, options.pop("tasks", (TASK,)), **options)


def claim(*parts: Part, **options: Any) -> Claim:
    return Claim("kasa.made", "kasa", "KaSA is above LoRA.", "made", parts, **options)


def verdict(records: Sequence[RunRecord], *parts: Part, lr: str = "paper", **options: Any) -> ClaimVerdict:
    (found,) = judge([claim(*parts, **options)], records, lr=lr)
    return found


def only(records: Sequence[RunRecord], one: Part, lr: str = "paper") -> PartVerdict:
    return verdict(records, one, lr=lr).parts[0]


class TestConditions:
    @pytest.mark.parametrize(
        ("value", "condition", "fits"),
        [
            (8, "8", True),
            (1e-4, "0.0001", True),
            (8, [4, 8], True),
            (["q", "v"], ["q", "v"], True),
            ("none", None, True),
            (None, "none", True),
            (None, "!= none", False),
            ("nq_open", "!= none", True),
            (0, "> 0", False),
            (0.5, "> 0", True),
            (8, ">= 8", True),
            (None, "> 0", False),
            (False, 0, False),
            (True, "true", True),
            ("paper", "authors", False),
        ],
    )
    def test_values_lists_and_comparisons(self, value: Any, condition: Any, fits: bool) -> None:
        assert matches(value, condition) is fits

    def test_a_key_that_came_later_has_its_default(self) -> None:
        one = record("kasa", 0, 0.5)
        assert value_of(one, one.settings, "trainer.packing") is False
        assert value_of(one, one.settings, "method.control") == "none"
        assert value_of(one, one.settings, "trainer.no_such_key") is None
        assert value_of(one, one.settings, "scale") == "pocket"


class TestVerdicts:
    @pytest.mark.parametrize(
        ("by", "spread", "published", "state", "words"),
        [
            (0.012, 0.002, (86.3, 85.2), "reproduced", "Reproduced: KaSA is 1.20 points above LoRA on glue/rte with"),
            (-0.012, 0.002, (86.3, 85.2), "not_reproduced", "significant in the other direction"),
            (0.001, 0.002, (86.3, 85.2), "not_reproduced", "a difference of half the published 1.1"),
            (0.010, 0.014, (86.3, 85.2), "direction", "not significant"),
            (0.003, 0.014, (86.3, 85.2), "undecidable", "would decide a difference as large as the published 1.1"),
            (0.003, 0.014, (None, None), "undecidable", "would decide a difference as large as ours, 0.3"),
        ],
    )
    def test_each_state_with_its_sentence(
        self, by: float, spread: float, published: tuple[float | None, float | None], state: str, words: str
    ) -> None:
        found = verdict(runs("lora", BASE) + runs("kasa", moved(by, spread)), part(published=published))
        assert found.state == state and words in found.sentence
        one = found.parts[0]
        assert one.difference == pytest.approx(by) and one.low < by < one.high and one.seeds == 5  # type: ignore[operator]
        assert (one.seeds_needed is not None) == (state in ("direction", "undecidable"))
        assert "interval over seeds alone" in one.notes[-1] and one.examples is None

    def test_the_family_is_the_claim(self) -> None:
        other = Selector("PiSSA", {"method": "pissa"})
        records = runs("lora", BASE) + runs("kasa", moved(0.012)) + runs("pissa", BASE)
        found = verdict(records, part(), part(reference=other))
        assert [one.p_holm for one in found.parts] == pytest.approx([2 * one.p for one in found.parts])  # type: ignore[operator]

    def test_a_margin_and_not_worse(self) -> None:
        records = runs("lora", BASE) + runs("kasa", moved(-0.004))
        assert only(records, part("not_worse", margin=0.01)).state == "reproduced"
        assert only(records, part("not_worse", margin=0.001)).state == "not_reproduced"
        assert only(runs("lora", BASE) + runs("kasa", moved(0.012)), part(margin=0.02)).state == "not_reproduced"

    def test_equal_runs_are_not_worse_and_decide_nothing_else(self) -> None:
        records = runs("lora", BASE) + runs("kasa", BASE)
        assert only(records, part("not_worse")).state == "reproduced"
        found = verdict(records, part())
        assert found.state == "undecidable" and "equal" in found.sentence

    def test_one_seed_decides_nothing(self) -> None:
        found = verdict(runs("lora", BASE[:1]) + runs("kasa", [0.9]), part())
        assert found.state == "undecidable" and "one seed has no spread" in found.sentence

    def test_a_mean_over_tasks_is_paired_by_seed_and_needs_all_of_them(self) -> None:
        records = [
            one
            for task in ("glue/rte", "glue/mrpc")
            for one in runs("lora", BASE, task=task) + runs("kasa", moved(0.01), task=task)
        ]
        found = only(records[:-1], part(tasks=("glue/rte", "glue/mrpc")))
        assert found.seeds == 4 and dict(found.tasks)["glue/mrpc"] == pytest.approx(0.01, abs=0.001)
        missing = verdict(records[:10], part(tasks=("glue/rte", "glue/mrpc")))
        assert missing.state == "missing" and "KaSA on glue/mrpc with minilm (no run)" in missing.sentence

    def test_lower_is_better_turns_the_difference(self) -> None:
        options = {"metric": "perplexity", "higher_is_better": False}
        records = runs("lora", [10 * v for v in BASE], **options) + runs(
            "kasa", [10 * v for v in moved(-0.1)], **options
        )
        found = verdict(records, part(metric="perplexity", published=(5.5, 6.1)))
        assert found.state == "reproduced" and found.parts[0].difference == pytest.approx(1.0)
        assert found.parts[0].published == pytest.approx(0.6)
        assert "is 1.000 perplexity better than LoRA on glue/rte" in found.sentence

    def test_a_number_of_result_json_against_a_bound(self) -> None:
        records = [
            record("kasa", seed, 0.6, result={"seconds": {"fit": fit}, "parameters": {"trainable": 100}})
            for seed, fit in enumerate((80.0, 82.0, 81.0, 79.0))
        ]
        bound = part("at_most", reference=None, metric="seconds.fit", margin=90.0)
        assert only(records, bound).state == "reproduced"
        assert (
            only(records, part("at_least", reference=None, metric="seconds.fit", margin=90.0)).state == "not_reproduced"
        )
        exact = part("at_most", reference=None, metric="parameters.trainable", margin=100)
        assert only(records[:1], exact).state == "reproduced"

    def test_the_untrained_model_stands_beside_every_seed(self) -> None:
        base = Selector("untrained model", {"method": "base"})
        found = only(runs("kasa", moved(0.01)) + runs("base", [0.55]), part(reference=base))
        assert found.state == "reproduced" and found.seeds == 5

    def test_a_claim_needs_some_of_its_parts(self) -> None:
        records = runs("lora", BASE) + runs("kasa", moved(0.012))
        parts = (part(), part(reference=Selector("DoRA", {"method": "dora"})))
        assert verdict(records, *parts).state == "missing"
        assert verdict(records, *parts, needed=1).state == "reproduced"

    def test_no_form_says_why(self) -> None:
        (found,) = judge([claim(part(), no_pocket="too large")], [], form="pocket")
        assert found.state == "missing" and found.sentence == "No pocket form: too large."

    def test_a_score_that_is_not_a_number_decides_nothing(self) -> None:
        found = only(runs("lora", BASE) + runs("kasa", [float("nan"), *moved(0.01)[1:]]), part())
        assert found.state == "undecidable" and any("NaN" in note for note in found.notes)

    @pytest.mark.parametrize("options", [{"form": "huge"}, {"lr": "best"}])
    def test_a_wrong_request_is_a_sentence(self, options: dict[str, str]) -> None:
        with pytest.raises(ConfigError, match="unknown"):
            judge([], [], **options)  # type: ignore[arg-type]


class TestWhichRuns:
    def test_several_settings_take_the_most_seeds_and_say_so(self) -> None:
        longer = {"settings": {"trainer.max_steps": 500}}
        records = runs("lora", BASE) + runs("kasa", moved(0.012)) + runs("kasa", moved(0.05)[:2], first=7, **longer)
        found = only(records, part())
        assert found.difference == pytest.approx(0.012)
        assert any("2 settings of KaSA fit on glue/rte" in n and "trainer.max_steps=none" in n for n in found.notes)

    def test_runs_that_were_run_alike_come_first(self) -> None:
        other = {"settings": {"trainer.batch_size": 64}}
        records = runs("lora", BASE[:4]) + runs("kasa", moved(0.012)[:4]) + runs("kasa", moved(0.05), **other)
        assert only(records, part()).difference == pytest.approx(0.012, abs=0.001)

    def test_unlike_settings_are_told_unless_the_claim_names_them(self) -> None:
        other = {"settings": {"trainer.batch_size": 64, "method.rank": 4}}
        records = runs("lora", BASE) + runs("kasa", moved(0.012), **other)
        (note,) = [note for note in only(records, part()).notes if "differ" in note]
        assert note == "KaSA and LoRA differ on glue/rte in: trainer.batch_size 64 | 32"
        named = Selector("KaSA", {"method": "kasa", "trainer.batch_size": 64})
        assert not [note for note in only(records, part(ours=named)).notes if "differ" in note]

    def test_the_published_rate_chooses_and_a_missing_one_is_named(self) -> None:
        records = runs("lora", BASE) + runs("kasa", moved(0.012))
        records += runs("kasa", moved(0.05), settings={"trainer.learning_rate": 4e-4})
        kasa = Selector("KaSA", {"method": "kasa"}, "kasa")
        rates = {"kasa": 4e-4, "*": 1e-3}
        assert only(records, part(ours=kasa, paper_learning_rate=rates)).difference == pytest.approx(0.05, abs=0.001)
        found = verdict(records, part(paper_learning_rate=2e-5))
        assert (
            found.state == "missing"
            and "KaSA on glue/rte with minilm (no run at learning rate 2e-05)" in found.sentence
        )

    def test_tuned_takes_the_fresh_seeds_of_the_rate_that_was_chosen(self) -> None:
        records = []
        for method, gain in (("lora", 0.0), ("kasa", 0.012)):
            for rate, select in ((1e-4, 0.6), (3.16e-4, 0.8), (1e-3, 0.7)):
                at = {"settings": {"trainer.learning_rate": rate, "evaluator.test": False}}
                records += runs(method, [0.0, 0.0], select=select, tested=False, **at)
            for rate, extra in ((3.16e-4, 0.0), (1e-3, 0.3)):
                at = {"settings": {"trainer.learning_rate": rate}}
                records += runs(method, [v + extra for v in moved(gain)], first=100, **at)
        found = only(records, part(), lr="tuned")
        assert found.state == "undecidable" or found.difference == pytest.approx(0.012)
        assert found.ours == pytest.approx(sum(moved(0.012)) / 5)
        assert any("learning rate 0.000316 by search" in note for note in found.notes)

    def test_tuned_without_a_search_says_so(self) -> None:
        records = runs("lora", BASE) + runs("kasa", moved(0.012))
        found = verdict(records, part(), lr="tuned")
        assert found.state == "missing" and "no learning rate was searched" in found.sentence

    def test_failed_runs_are_counted_as_such(self) -> None:
        failed = [record("kasa", 0, 0.5, state="failed", best=None), record("kasa", 1, 0.5, state="running", best=None)]
        found = verdict(runs("lora", BASE) + failed, part())
        assert "KaSA on glue/rte with minilm (1 failed, 1 running)" in found.sentence

    def test_seeds_that_do_not_meet_are_told(self) -> None:
        found = verdict(runs("lora", BASE) + runs("kasa", moved(0.012), first=50), part())
        assert found.state == "missing" and "KaSA and LoRA on glue/rte with minilm (no seed in common" in found.sentence


class TestExamples:
    def test_saved_predictions_widen_the_interval(self, tmp_path: Path) -> None:
        draw = random.Random(0)
        hard = [draw.random() for _ in range(200)]
        for seed in range(5):
            for method, level in (("lora", 0.60), ("kasa", 0.63)):
                right = [float(h + draw.gauss(0, 0.05) < level) for h in hard]
                make_run(tmp_path, sum(right) / 200, method=method, seed=seed, right=right)
        records = read_runs([tmp_path])
        found = only(records, part())
        (alone,) = judge([claim(part())], records, examples=False)
        assert found.examples == 200 and alone.parts[0].examples is None
        assert found.p == alone.parts[0].p
        assert found.low < alone.parts[0].low  # type: ignore[operator]
        assert found.bootstrap_low is not None and found.bootstrap_low < 0.03 < found.bootstrap_high  # type: ignore[operator]

    def test_what_trains_nothing_is_judged_over_examples_alone(self, tmp_path: Path) -> None:
        for method, right in (("base", [1.0] * 100 + [0.0] * 100), ("adapter", [1.0] * 140 + [0.0] * 60)):
            for seed in range(2 if method == "base" else 1):
                make_run(tmp_path, sum(right) / 200, method=method, seed=seed, right=right)
        sides = Selector("adapter", {"method": "adapter"}), Selector("untrained model", {"method": "base"})
        found = only(read_runs([tmp_path]), part(ours=sides[0], reference=sides[1]))
        assert found.state == "reproduced" and found.difference == pytest.approx(0.2)
        assert found.low == pytest.approx(0.2 - 1.96 * (0.16 / 200) ** 0.5, abs=0.005)
        assert any("nothing is trained" in note for note in found.notes) and found.p_permutation is None


def test_every_shipped_claim_gets_a_verdict_without_runs() -> None:
    claims = read_claims()
    for form in ("paper", "pocket"):
        found = judge(claims, [], form=form)
        assert [one.claim.id for one in found] == [one.id for one in claims]
        assert all(one.state == "missing" and one.sentence.endswith(".") for one in found)


def test_ten_thousand_records_are_judged_in_seconds() -> None:
    claims = read_claims()
    names = ("kasa", "lora", "pissa", "milora", "adalora", "dora", "full", "bitfit", "probe", "corda_ipa")
    records = [
        record(
            method,
            seed,
            0.6 + 0.01 * random.Random(seed).random(),
            task=f"glue/{task}",
            settings={"trainer.learning_rate": 1e-4 * (1 + rate), "method.rank": rank, **PADDING},
        )
        for task in ("cola", "mrpc", "rte", "sst2", "stsb")
        for method in names
        for rank in (1, 4, 8, 32)
        for rate in range(10)
        for seed in range(5)
    ]
    assert len(records) == 10_000
    start = time.process_time()
    for lr in ("paper", "tuned"):
        found = judge(claims, records, form="pocket", lr=lr)
    assert time.process_time() - start < 20
    assert any(one.state != "missing" for one in found)


PADDING = {f"model.key_{index}": json.dumps(index) for index in range(60)}
"""as many keys as a real config has"""
