"""The claims as data: every sentence of the fact sheets, decided by runs that can exist, quoting printed numbers."""

from pathlib import Path

import pytest

from kasa_corda.errors import ConfigError
from kasa_corda.methods import METHODS
from kasa_corda.paper.claims import FORMS, KINDS, read_claims
from kasa_corda.paper.hyperparameters import lookup
from kasa_corda.paper.published import read_published
from kasa_corda.verdicts.conditions import matches

CONFIGS = Path(__file__).parents[1] / "configs"
CLAIMS = read_claims()
BY_ID = {claim.id: claim for claim in CLAIMS}
PARTS = [(claim, form, part) for claim in CLAIMS for form in FORMS for part in claim.form(form)]
POCKET_MODELS = {"minilm", "smollm2_135m"}


def configs(group: str) -> set[str]:
    return {str(file.relative_to(CONFIGS / group))[:-5] for file in (CONFIGS / group).rglob("*.yaml")}


def test_both_papers_have_their_claims():
    assert sum(c.paper == "kasa" for c in CLAIMS) >= 15 and sum(c.paper == "corda" for c in CLAIMS) >= 15
    for number in range(1, 13):
        assert any(c.id.startswith(f"corda.c{number}_") for c in CLAIMS), number


def test_every_claim_has_a_pocket_form_or_a_reason():
    for claim in CLAIMS:
        assert bool(claim.pocket) != bool(claim.no_pocket) and bool(claim.parts) != bool(claim.no_parts), claim.id
        assert not claim.sentence[0].islower() and claim.sentence.endswith("."), claim.id


def test_every_name_is_a_config():
    for claim, form, part in PARTS:
        assert part.kind in KINDS
        assert part.model in configs("model") and set(part.tasks) <= configs("task"), claim.id
        assert (part.model in POCKET_MODELS) == (form == "pocket"), claim.id
        for side in (part.ours, part.reference):
            assert side.where["method"] in METHODS.names(), claim.id


def test_every_condition_is_on_an_option_of_its_method():
    from kasa_corda.calibration.settings import CalibrationConfig

    for claim, _, part in PARTS:
        for side in (part.ours, part.reference):
            options = METHODS[side.where["method"]].Config.__dataclass_fields__
            for key in side.where:
                group, _, name = key.partition(".")
                known = {"method": options, "calibration": CalibrationConfig.__dataclass_fields__}[group]
                assert not name or name in known, (claim.id, side.key, key)


def test_every_side_at_its_paper_rate_has_a_rate_if_it_trains():
    for claim, _, part in PARTS:
        for side in (part.ours, part.reference):
            if METHODS[side.where["method"]].trains:
                assert all(part.learning_rate(side, task) for task in part.tasks), (claim.id, side.key)


def test_the_paper_rates_are_the_published_ones():
    checked = set()
    for claim, form, part in PARTS:
        for side, task in ((s, t) for s in (part.ours, part.reference) for t in part.tasks):
            published = lookup(claim.paper, part.model, task, side.where["method"])
            if form == "paper" and published and published.learning_rate:
                assert published.learning_rate == part.learning_rate(side, task), (claim.id, side.key)
                checked.add((claim.paper, side.where["method"]))
    assert {("kasa", "kasa"), ("corda", "corda_kpa"), ("corda", "corda_ipa"), ("corda", "lora")} <= checked


def test_quoted_numbers_are_cells_of_the_published_table():
    cells = read_published()
    for claim, form, part in PARTS:
        for side, number in zip((part.ours, part.reference), part.published, strict=True):
            if number is None:
                continue
            fit = [
                c
                for c in cells
                if (c.paper, c.model, c.method, c.number) == (claim.paper, part.model, side.where["method"], number)
                and all(matches(c.conditions[key], side.where[key]) for key in c.conditions.keys() & side.where.keys())
                and (len(part.tasks) == 1 or c.is_mean)
                and (c.is_mean or c.run_task in part.tasks)
                and (c.is_mean or part.metric in (None, c.run_metric))
            ]
            assert fit, (claim.id, side.key, number)
            assert form == "paper", "no pocket number has been published"


def test_the_claims_direction_is_that_of_the_printed_numbers_unless_the_sentence_says_otherwise():
    against = set()
    for claim, _, part in PARTS:
        ours, theirs = part.published
        if ours is None or theirs is None:
            continue
        difference = (ours - theirs) * (1 if part.higher_is_better else -1)
        allowed = part.margin * (1 if part.metric == "perplexity" else 100)
        if difference < -allowed or (part.kind == "above" and difference <= 0):
            against.add(claim.id)
    # the paper's own table contradicts its abstract; on WikiText-2, CO-SVD and 16 to 128 are no exception
    assert against == {"kasa.beats_full"}


def test_the_plain_selector_takes_no_ablation():
    kasa = BY_ID["kasa.glue_roberta_base"].pocket[0].ours.where
    run = {
        "method": "kasa",
        "method.variant": "paper",
        "method.control": "none",
        "method.beta": 1e-4,
        "method.gamma": 1e-3,
        "method.rank": 8,
    }
    assert all(matches(run.get(key), value) for key, value in kasa.items())
    for key, value in (
        ("control", "no_truncation"),
        ("beta", 0.0),
        ("gamma", 0.0),
        ("rank", 4),
        ("variant", "authors"),
        ("truncation_rank", 4),
        ("core", "dense"),
    ):
        other = {**run, f"method.{key}": value}
        assert not all(matches(other.get(k), v) for k, v in kasa.items()), key


def test_no_two_selectors_of_one_form_take_the_same_kasa_run():
    sides = {s.key: s for c in CLAIMS for p in c.pocket for s in (p.ours, p.reference) if s.where["method"] == "kasa"}
    wheres = {key: {k: v for k, v in side.where.items() if k != "method.rank"} for key, side in sides.items()}
    example = {"> 0": 1e-4}
    for key, where in wheres.items():
        run = {k: example.get(v, v) if isinstance(v, str) else v for k, v in where.items()}
        taken = [other for other, w in wheres.items() if all(matches(run.get(k), v) for k, v in w.items())]
        assert taken == [key] or key == "lora_matched", (key, taken)


def test_ranks_and_discarded_components_become_conditions():
    sweep = BY_ID["kasa.rank_sweep"].pocket
    assert {p.ours.where["method.rank"] for p in sweep} == {1, 4, 8, 32, 128}
    assert all(p.ours.where["method.rank"] == p.reference.where["method.rank"] for p in sweep)
    order = BY_ID["corda.c2_discarded_order"].parts
    assert [p.published for p in order if p.ours.where["method.discard"] == 256] == [(5.54, 9.92), (9.92, 18.5)]
    full = BY_ID["kasa.beats_full"].pocket[0].reference
    assert "method.rank" not in full.where


def test_the_untrained_model_has_no_rank():
    assert all("method.rank" not in p.ours.where for p in BY_ID["corda.forgets"].pocket)


def test_scores_of_which_less_is_better_are_known():
    assert not BY_ID["corda.c3_few_samples"].parts[0].higher_is_better
    assert not BY_ID["corda.c11_loss"].parts[0].higher_is_better
    assert BY_ID["corda.c5_kpa_math"].parts[0].higher_is_better


def test_a_rate_is_the_methods_own_before_the_tasks():
    part = BY_ID["kasa.glue_roberta_large"].parts[0]
    assert part.learning_rate(part.reference, "glue/cola") == 2e-5
    assert part.learning_rate(part.ours, "glue/cola") == 3e-4


GOOD = """
groups: {two: [glue/cola, glue/rte]}
rates: {low: {full: 1e-5, "*": 1e-3}}
selectors:
  kasa: {name: KaSA, where: {method: kasa, method.beta: "> 0"}}
  lora: {name: LoRA, where: {method: lora}}
claims:
  - id: kasa.one
    sentence: KaSA is better.
    source: nowhere
    parts: [{above: kasa, than: lora, model: minilm, tasks: two, rank: [4, 8], rates: low}]
    no_pocket: no
"""


def test_a_small_file_is_read(tmp_path):
    (tmp_path / "c.yaml").write_text(GOOD.replace("no_pocket: no", "no_pocket: too small"))
    (claim,) = read_claims(tmp_path / "c.yaml")
    assert [part.ours.where["method.rank"] for part in claim.parts] == [4, 8]
    assert claim.parts[0].tasks == ("glue/cola", "glue/rte")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("above: kasa", "above: kassa", "claim kasa.one, parts: there is no selector kassa; did you mean kasa"),
        ("above: kasa", "abvoe: kasa", "claim kasa.one, parts: unknown key abvoe; did you mean above"),
        ("rates: low", "rates: lwo", "there are no rates lwo; did you mean low"),
        ("rates: low", "rates: 12", "no learning rate between 0 and 1"),
        ("than: lora, ", "", "above needs than"),
        ("model: minilm, ", "", "model is missing"),
        ("above: kasa, than: lora", "at_most: kasa, metric: accuracy", "margin is missing"),
        ('"> 0"', '"> "', "is no condition"),
        ("sentence: KaSA is better.", "sentences: x", "claim kasa.one: unknown key sentences; did you mean sentence"),
        ("no_pocket: no", "needed: 3", "give either pocket or no_pocket"),
        ("id: kasa.one", "id: other.one", "id must begin with one of kasa., corda."),
        ("where: {method: lora}", "where: {method.rank: 8}", "selector lora: where has no key method"),
        ("claims:", "claim:", "unknown key claim"),
    ],
)
def test_mistakes_are_sentences_that_name_claim_and_key(tmp_path, old, new, words):
    text = GOOD.replace("no_pocket: no", "no_pocket: too small") if old != "no_pocket: no" else GOOD
    assert old in text
    (tmp_path / "c.yaml").write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=words.replace(".", r"\.").replace("(", r"\(")):
        read_claims(tmp_path / "c.yaml")
