"""Sentences from data: the five metrics against what the official e2e-metrics printed, grouping, files, prompts."""

from __future__ import annotations

import csv
import gzip
import json
import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, compose
from hypothesis import example, given, settings
from hypothesis import strategies as st
from synthetic import make_task

from kasa_corda.errors import ConfigError, DataError
from kasa_corda.evaluation.nlg import METRICS, measure
from kasa_corda.evaluation.nlg.bleu import bleu
from kasa_corda.evaluation.nlg.cider import cider
from kasa_corda.evaluation.nlg.measured import Measured
from kasa_corda.evaluation.nlg.meteor import meteor
from kasa_corda.evaluation.nlg.meteor_alignment import align, matched
from kasa_corda.evaluation.nlg.meteor_resources import JAR, PACKAGE, TABLE, Resources, read_resources
from kasa_corda.evaluation.nlg.meteor_words import meteor_words
from kasa_corda.evaluation.nlg.nist import BETA, nist
from kasa_corda.evaluation.nlg.rouge_l import longest_common, rouge_l
from kasa_corda.evaluation.nlg.tokenise import mteval, treebank
from kasa_corda.launch import prepare
from kasa_corda.models.cache import is_complete
from kasa_corda.models.packages import package_folder

REAL = Path(os.environ.get("KASA_CORDA_DATA") or ROOT.parent / "shared" / "data")
SYSTEM = [
    "The Mill is a cheap Italian place near the river.",
    "Bibi's serves sushi for £20-25; it isn't child-friendly!",
    "Locals love The Oak, which offers high-priced fish dishes in the centre of town.",
    "There is a café named Zest (rated 4/5) close to the station.",
    "Dine at Rosa's for under £10.",
    "Green Leaf does not allow kids, but its customers are happy and the food is average.",
]
REFERENCES = [
    ["The Mill is a low-cost Italian restaurant by the river.", "Near the river, The Mill offers cheap Italian food."],
    [
        "Bibi's is a sushi place that isn't family friendly. Prices are £20-25.",
        "For £20-25 you can eat sushi at Bibi's, though children are not welcome.",
        "Bibi's sells Japanese food in the £20-25 range; no kids.",
    ],
    ["The Oak is an expensive fish restaurant in the town centre."],
    [
        "Zest is a café next to the station with a rating of 4 out of 5.",
        'Close to the station is a coffee shop called "Zest". It\'s rated 4/5.',
    ],
    ["Rosa's serves meals that cost less than £10.", "You can have dinner at Rosa's for less than £10."],
    ["Green Leaf is not kid friendly; customers rate it as average.", "Children aren't allowed at Green Leaf."],
]
OFFICIAL = {"bleu": 0.2194, "nist": 4.0105, "meteor": 0.3422, "rouge_l": 0.4871, "cider": 1.9206}
"""printed by e2e-metrics 1b9c4d8 (Perl mteval-v13a, Java METEOR 1.5 and PTBTokenizer) for the texts above"""


@pytest.mark.parametrize("name", [name for name in METRICS if name != "meteor"])
def test_metrics_equal_what_the_official_script_prints(name):
    assert round(measure(SYSTEM, REFERENCES, Resources())[name].score, 4) == OFFICIAL[name]


@pytest.mark.skipif(not is_complete(package_folder(PACKAGE)), reason="METEOR's data was not fetched on this machine")
def test_meteor_with_its_published_data_equals_what_the_official_script_prints():
    assert round(meteor(SYSTEM, REFERENCES, read_resources(package_folder(PACKAGE))).score, 4) == OFFICIAL["meteor"]


def test_meteor_without_its_data_is_an_approximation_from_below():
    score = meteor(SYSTEM, REFERENCES, Resources()).score
    assert 0.85 * OFFICIAL["meteor"] < score < OFFICIAL["meteor"]


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ("It's £20-25.", "it's £20 - 25 .", "it 's # 20-25"),
        ("A 5-star café; kid-friendly!", "a 5 - star café ; kid-friendly !", "a 5-star café kid-friendly"),
        (
            'Say "hi" (don\u2019t) 3.5/5...',
            'say " hi " ( don\u2019t ) 3.5 / 5 . . .',
            "say hi -lrb- do n't -rrb- 3.5 / 5",
        ),
        ("I cannot. 1,000 at 9:30am", "i cannot . 1,000 at 9 : 30am", "i can not 1,000 at 9:30 am"),
        ("in the city center., near Mr. X", "in the city center . , near mr . x", "in the city center. near mr. x"),
        ("Ünter & <b> &amp; É", "Ünter & < b > & É", "ünter & <b> & é"),
        ("", "", ""),
    ],
)
def test_texts_become_the_words_that_mteval_and_the_stanford_tokeniser_see(text, first, second):
    assert (" ".join(mteval(text)), " ".join(treebank(text))) == (first, second)


def test_meteor_reads_hyphenated_words_and_contractions_apart():
    assert " ".join(meteor_words("It isn't kid-friendly; U.S.-style etc. at the city center., ok")) == (
        "it is n 't kid friendly us style etc. at the city center. ok"
    )


def test_identical_texts_reach_the_top_and_unrelated_ones_the_bottom():
    firsts = [accepted[0] for accepted in REFERENCES]
    best = measure(firsts, [[text] for text in firsts], Resources())
    assert [best[name].score for name in ("bleu", "meteor", "rouge_l")] == pytest.approx([1, 1, 1])
    assert best["cider"].score == pytest.approx(10)
    worst = measure(["zzz"] * 6, REFERENCES, Resources())
    assert [worst[name].score for name in ("nist", "meteor", "rouge_l", "cider")] == [0, 0, 0, 0]


def test_bleu_takes_the_closest_reference_length_the_shorter_of_two_and_smooths_missing_orders():
    assert bleu(["a b c d e"], [["a b c d", "a b c d e f"]]).score == pytest.approx(1)
    assert bleu(["a b c d"], [["a b c d e f", "a b c d e"]]).score == pytest.approx(np.exp(1 - 5 / 4))
    assert bleu(["a b x y z"], [["a b p q r"]]).score == pytest.approx((2 / 5 * 1 / 4 * 1 / 6 * 1 / 8) ** 0.25)


def test_nist_weighs_by_information_and_penalises_short_texts():
    # four reference words, each once: log2(4) bits a word, nothing more for a bigram whose first word is unique
    assert nist(["a b c d"], [["a b c d"]]).score == pytest.approx(2)
    assert nist(["a b"], [["a b c d"]]).score == pytest.approx(2 * np.exp(-BETA * np.log(0.5) ** 2))


def test_rouge_l_takes_precision_and_recall_each_from_its_best_reference():
    precision, recall = 3 / 4, 2 / 2
    expected = (1 + 1.44) * precision * recall / (recall + 1.44 * precision)
    assert rouge_l(["a b c d"], [["a b c x y z w", "a b"]]).score == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_the_longest_common_subsequence_is_the_one_of_rouge_score(first, second):
    from rouge_score import rouge_scorer

    plain = rouge_scorer._lcs_table(first, second)[-1][-1] if first and second else 0
    assert longest_common(first, second) == plain


def test_cider_counts_rare_words_more():
    references = [["a common thing here"], ["a common stuff there"], ["a common matter now"]]
    rare, common = (cider([text, "x", "y"], references).each[0] for text in ("z z thing here", "a common z z"))
    assert rare > common == pytest.approx(0)


def test_the_alignment_prefers_exact_matches_then_few_chunks():
    # prediction: the cat the; reference: the cat -> the first 'the' makes one chunk
    chosen, chunks = align([[matched(0, 1, 0, 1, 0), matched(0, 1, 2, 1, 0)], [matched(1, 1, 1, 1, 0)]])
    assert [m.at for m in chosen] == [0, 1] and chunks == 1
    chosen, _ = align([[matched(0, 1, 0, 1, 2)], [matched(1, 1, 0, 1, 0)]])
    assert [m.start for m in chosen] == [1]


def test_meteor_finds_synonyms_irregular_forms_and_paraphrases_in_its_data(tmp_path):
    with zipfile.ZipFile(tmp_path / JAR, "w") as archive:
        archive.writestr("function/english.words", "the\na\n")
        archive.writestr("synonym/english.exceptions", "child\nchildren\n")
        archive.writestr("synonym/english.synsets", "child\n1 2\nkid\n2\ndish\n5\nmeal\n5\n")
    with gzip.open(tmp_path / TABLE, "wt", encoding="utf-8") as table:
        table.write("0.5\na lot of\nmany\n0.1\nnever\nseen\n")
    resources = read_resources(tmp_path)

    def score(prediction: str, reference: str) -> float:
        return meteor([prediction], [[reference]], resources).score

    assert score("children", "kid") > 0 and score("dishes", "meal") > 0 and score("child", "meal") == 0
    assert score("many fish", "a lot of fish") > score("some fish", "a lot of fish")
    assert score("a lot of fish", "many fish") > score("some of fish", "many fish")
    with pytest.raises(DataError, match="does not hold METEOR's word lists"):
        read_resources(tmp_path / "nothing")


def test_errors_are_seeded_and_those_of_means_are_their_standard_errors():
    values = list(np.random.default_rng(0).normal(size=300))
    one = Measured.mean(values)
    assert one.error() == Measured.mean(values).error() == pytest.approx(np.std(values) / 300**0.5, rel=0.1)
    assert all(value.error() > 0 for value in measure(SYSTEM, REFERENCES, Resources()).values())
    assert Measured.mean([1.0]).error() == 0


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=3))
@example(["", " "])
@example(["\ud7ff\x00\u2028 a.b. . . ,'' \u2019s 1,2,.3 -- #"])
@example(["'" * 200 + "a-" * 200 + "1." * 200 + "<" * 200])
def test_any_text_is_scored_quickly_and_never_an_error(texts):
    began = time.perf_counter()
    found = measure(texts, [["A place."]] * len(texts), Resources())
    assert all(np.isfinite(value.score) for value in found.values())
    assert time.perf_counter() - began < 10  # the first call imports the stemmer
    again = time.perf_counter()
    measure(texts, [["A place."]] * len(texts), Resources())
    assert time.perf_counter() - again < 0.2 * len(texts)
    assert all(
        np.isfinite(value.score)
        for value in measure(["A place."] * len(texts), [[t] for t in texts], Resources()).values()
    )


def write_e2e(folder: Path, train: str = "devset.csv") -> Path:
    """E2E's layout: two texts of every meaning in training, three in test."""
    for file, names, texts in ((train, range(40), 2), ("testset_w_refs.csv", range(100, 106), 3)):
        path = folder / "e2e" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as target:
            writer = csv.writer(target)
            writer.writerow(["mr", "ref"])
            for name in names:
                for text in range(texts):
                    mr = f"name[Bar {name}], eatType[pub], priceRange[less than £20], familyFriendly[yes]"
                    writer.writerow([mr, f"Bar {name} is a pub, number {text}."])
    return folder


def test_test_texts_are_grouped_by_meaning_and_training_texts_are_not(tmp_path):
    data = make_task("e2e", meteor="stems").load(write_e2e(tmp_path), "held_out")
    tests = data.test["test"]
    assert len(tests) == 6 and [len(e.label) for e in tests] == [3] * 6
    assert len(data.train) == 72 and len(data.select) == 4 and [len(e.label) for e in data.select] == [2] * 4
    assert not {e.text for e in data.train} & {e.text for e in data.select}
    assert any("no trainset.csv: trained on devset.csv" in note for note in data.notes)
    assert any("18 test texts are the references of 6 meanings" in note for note in data.notes)


def test_the_official_training_file_is_used_where_it_is(tmp_path):
    data = make_task("e2e").load(write_e2e(write_e2e(tmp_path), "trainset.csv"), "held_out")
    assert not any("devset" in note for note in data.notes) and len(data.train) == 72


def test_the_prompt_is_kasas_and_the_same_from_loras_files(tmp_path):
    task = make_task("e2e")
    example = task.load(write_e2e(tmp_path), "held_out").test["test"][0]
    fields = "name : Bar 100 | Type : pub | price : less than £20 | family friendly : yes"
    assert task.prompt_of(example) == f"### Context : {fields}\n### Completion :"
    assert example.target == " Bar 100 is a pub, number 0."
    lines = "".join(f"{fields}||Text {i} . \n" for i in range(2))
    for name in ("valid", "test"):
        (tmp_path / "e2e" / f"{name}.txt").write_text(lines, encoding="utf-8")
    lora = make_task("e2e", files={"train": "train.txt", "test": "test.txt"}, stand_in="valid.txt")
    other = lora.load(tmp_path, "held_out").test["test"]
    assert [(e.text, e.label) for e in other] == [(fields, ["Text 0 .", "Text 1 ."])]
    (tmp_path / "e2e" / "test.txt").write_text("no bars\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"test.txt, line 1: no '\|\|'"):
        lora.load(tmp_path, "held_out")


def test_triples_are_written_as_in_loras_files_and_listed_references_count(tmp_path):
    row = {
        "input": ["A | is in | B", "B | part of | C"],
        "target": "A is in B.",
        "references": ["A is in B.", "B has A."],
    }
    for name in ("train", "test"):
        path = tmp_path / "webnlg" / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    (only,) = make_task("webnlg").load(tmp_path, "held_out").test["test"]
    assert only.text == "A : is in : B | B : part of : C" and only.label == ["A is in B.", "B has A."]
    row = {"tripleset": [["A", "IS", "B"]], "target": "A is B."}
    for name in ("train", "test"):
        path = tmp_path / "dart" / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(row) + "\n" + json.dumps({**row, "tripleset": [1]}) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 2, 'tripleset': '\[1\]' is not a list of triples"):
        make_task("dart").load(tmp_path, "held_out")


def test_grading_gives_all_metrics_with_errors_and_a_row_per_meaning(tmp_path):
    task = make_task("e2e", meteor="stems")
    tests = task.load(write_e2e(tmp_path), "held_out").test["test"]
    graded = task.grade(tests, [[e.label[0] if i else ""] for i, e in enumerate(tests)])
    assert set(graded.scores) == set(graded.errors) == set(METRICS) and set(METRICS) < set(task.metrics)
    assert [row["prediction"] == "" for row in graded.rows] == [True] + [False] * 5
    assert np.mean([row["score"] for row in graded.rows]) == pytest.approx(graded.scores["rouge_l"])
    chosen = make_task("e2e", meteor="stems", metric="cider").grade(tests, [["Bar 101"]] * 6)
    assert np.mean([row["score"] for row in chosen.rows]) == pytest.approx(chosen.scores["cider"])


def test_the_search_is_the_papers_and_wrong_requests_are_sentences():
    decoding = make_task("e2e").decoding()
    assert (decoding.num_beams, decoding.no_repeat_ngram_size, decoding.length_penalty) == (10, 4, 0.8)
    for wrong, sentence in (("task.metric=rouge", "rouge_l"), ("task.samples=2", "task.samples=2")):
        with pytest.raises(ConfigError, match=sentence):
            prepare(compose("task=e2e", "model=smollm2_135m", "method=lora", wrong))


@pytest.mark.skipif(not (REAL / "e2e").is_dir(), reason="real data sets are not on this machine")
def test_the_real_files_have_the_published_meanings_and_loras_prompts():
    data = make_task("e2e").load(REAL, "held_out")
    tests = data.test["test"]
    assert len(tests) == 630 and sum(len(e.label) for e in tests) == 4693
    assert not {e.text for e in data.train} & {e.text for e in tests}
    lora = make_task("e2e", files={"train": "train.txt", "test": "lora_test.txt"}, stand_in="lora_valid.txt")
    theirs = {e.text.replace("£ ", "£").replace("20 - 25", "20-25") for e in lora.load(REAL, "held_out").test["test"]}
    assert {e.text for e in tests} == theirs
