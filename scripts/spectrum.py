"""See what KaSA or CorDA does to the layers of a model, and what discarding components costs.

python scripts/spectrum.py model=minilm method=kasa
python scripts/spectrum.py model=smollm2_135m task=gsm8k method=corda_kpa calibration=nq_open data_dir=DATA \\
    --discard 0,16,32,64,128,256,512 --text DATA/gsm8k/test.jsonl:question --knowledge nq_open

The first form writes layers.csv and spectrum.png/.svg: per layer the singular values before and after, the energy in
the cut part, how CorDA's directions lie to those of the plain SVD, and the condition number of the covariance.
--discard adds discard.csv and discard.png/.svg: the papers' figure (CorDA Figure 2), without any training.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kasa_corda.cli.compose import composed
from kasa_corda.errors import ConfigError, DataError, KasaCordaError
from kasa_corda.escaping import csv_cell

if TYPE_CHECKING:
    from kasa_corda.config import RunConfig


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as for run.py: model=... method=... task=... calibration=...")
    parser.add_argument("--out", type=Path, default=Path("spectrum"), help="folder to write to (default: spectrum)")
    parser.add_argument("--discard", metavar="R,R,...", help="numbers of discarded components, e.g. 0,16,64,256")
    parser.add_argument("--text", action="append", metavar="FILE[:FIELD]", help="text for the perplexity; repeatable")
    parser.add_argument("--tokens", type=int, default=32768, help="at most this many tokens of each text")
    parser.add_argument("--window", type=int, default=2048, help="tokens per perplexity window (paper: 2048)")
    parser.add_argument("--knowledge", metavar="TASK", help="also score this question-answering task, e.g. nq_open")
    parser.add_argument("--questions", type=int, default=200, help="questions of --knowledge")
    return parser.parse_args()


def main() -> int:
    chosen = arguments()
    try:
        config = composed(chosen.overrides)
        ranks = wanted_ranks(chosen.discard, config)
        texts = {name: read_text(name) for name in chosen.text or ()}
        show(config, ranks, texts, chosen)
    except KasaCordaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def wanted_ranks(text: str | None, config: RunConfig) -> list[int]:
    """The values of --discard, checked against the smallest target layer."""
    from kasa_corda.methods import METHODS
    from kasa_corda.models.architecture import match_targets

    if not METHODS[config.method.name].adapts_layers:
        raise ConfigError(f"method={config.method.name} adapts no layers; use method=kasa, corda_kpa or corda_ipa")
    if not text:
        return []
    if not METHODS[config.method.name].calibrated:
        raise ConfigError("--discard compares with CorDA, which needs a calibration set: use method=corda_kpa")
    limit = min(min(s) for s in match_targets(asdict(config.model), config.method.target_modules).values())
    try:
        ranks = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise ConfigError(f"--discard {text} must be whole numbers separated by commas") from None
    for r in ranks:
        if not 0 <= r < limit:
            raise ConfigError(f"--discard {r} must be at least 0 and below the smallest layer side, {limit}")
    return ranks


def read_text(place: str) -> list[str]:
    """The texts of FILE (plain: one; .jsonl: FIELD of every line); DataError if they can't be read."""
    path, _, field = place.partition(":")
    try:
        content = Path(path).read_text(encoding="utf-8")
        if not field:
            return [content]
        return [json.loads(line)[field] for line in content.splitlines() if line.strip()]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"--text {place} can't be read ({type(error).__name__}: {error})") from None


def show(config: RunConfig, ranks: list[int], texts: dict[str, list[str]], chosen: argparse.Namespace) -> None:
    """Load, calibrate, measure, write and print."""
    import torch

    from kasa_corda.calibration.collect import collect_covariances
    from kasa_corda.calibration.hooks import resolve
    from kasa_corda.calibration.request import calibration_for
    from kasa_corda.data import load_data
    from kasa_corda.methods import METHODS
    from kasa_corda.models.architecture import match_targets
    from kasa_corda.models.loading import load_model
    from kasa_corda.progress import Progress
    from kasa_corda.spectrum.discard import activation_scales, discard_curve, weight_of
    from kasa_corda.spectrum.figures import discard_figure, spectra_figure
    from kasa_corda.spectrum.layers import layer_spectrum

    screen = Progress()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    method = METHODS[config.method.name](config.method)
    decoder = config.model.kind == "decoder"
    calibration = None
    if method.calibrated:
        task, data = load_data(config)
        calibration = calibration_for(config, method, task, data, device, chosen.out, screen)
    loaded = load_model(asdict(config.model), None if decoder else 2, "generation" if decoder else "classification")
    model: Any = loaded.model.to(device)
    targets = list(resolve(model, match_targets(asdict(config.model), config.method.target_modules)))
    batches = calibration.batches() if calibration else []
    found = collect_covariances(model, batches, targets, progress=screen) if calibration else {}
    covariances = {name: covariance.matrix for name, covariance in found.items()}

    cut = "largest" if config.method.name in ("corda_ipa", "pissa") else "smallest"
    spectra = []
    with screen.phase("layers", len(targets), "layer") as phase:
        for name in targets:
            W = weight_of(model.get_submodule(name))
            spectra.append(layer_spectrum(name, W, config.method.rank, cut, covariances.get(name)))
            phase.advance()
    chosen.out.mkdir(parents=True, exist_ok=True)
    written = [write_rows(chosen.out / "layers.csv", [spectrum.row() for spectrum in spectra])]
    written += spectra_figure(spectra, config.method.rank, chosen.out)
    print_layers([spectrum.row() for spectrum in spectra])

    if ranks:
        scores = scorer(config, model, loaded.tokenizer, texts, chosen)
        scales = activation_scales(model, batches, targets)
        points = discard_curve(model, targets, ranks, scores, covariances=covariances, scales=scales, progress=screen)
        written.append(write_rows(chosen.out / "discard.csv", [point.row() for point in points]))
        written += discard_figure(points, chosen.out, config.model.name)
        print_rows("discarded components", [point.row() for point in points])
    if config.model.approximation:
        print(f"note: {config.model.approximation}")
    print("written: " + ", ".join(map(str, written)))


def scorer(
    config: RunConfig, model: Any, tokenizer: Any, texts: Mapping[str, list[str]], chosen: argparse.Namespace
) -> Callable[[], dict[str, float]]:
    """What every point of the discard figure is scored by: perplexity of each text, metrics of the knowledge task."""
    from kasa_corda.data import load_data
    from kasa_corda.evaluation import EVALUATORS
    from kasa_corda.evaluation.perplexity import perplexity
    from kasa_corda.progress import Progress

    if config.model.kind != "decoder":
        raise ConfigError(f"--discard needs a language model; model={config.model.name} is an encoder")
    if not texts and not chosen.knowledge:
        raise ConfigError("--discard needs something to score: give --text FILE or --knowledge TASK")
    shortened = {}
    for place, parts in texts.items():
        ids = tokenizer("\n\n".join(parts), verbose=False)["input_ids"][: chosen.tokens]
        shortened[Path(place.partition(":")[0]).stem] = [tokenizer.decode(ids, skip_special_tokens=True)]
    quiz: Any = None
    if chosen.knowledge:
        same = [o for o in chosen.overrides if o.partition("=")[0] in ("data_dir", "model", "model.path")]
        asked = composed([*same, f"task={chosen.knowledge}", f"task.test_examples={chosen.questions}"])
        task, data = load_data(asked)
        quiz = task, data.test["test"], EVALUATORS[asked.evaluator.name](asked.evaluator)

    def score() -> dict[str, float]:
        found = {
            f"perplexity_{name}": perplexity(model, tokenizer, parts, chosen.window).value
            for name, parts in shortened.items()
        }
        if quiz is not None:
            task, questions, evaluator = quiz
            scores = evaluator.evaluate(model, tokenizer, task, questions, Progress(show=False)).scores
            found |= {f"{chosen.knowledge}_{name}": value for name, value in scores.items()}
        return found

    return score


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """A CSV file with a column for every key."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({key: csv_cell(value) for key, value in row.items()} for row in rows)
    return path


def print_layers(rows: Sequence[Mapping[str, Any]]) -> None:
    """Means over the layers of each kind; layers.csv has every layer."""
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        kinds.setdefault(row["layer"].rsplit(".", 1)[-1], []).append(row)
    means = []
    for kind, members in kinds.items():
        shown: dict[str, Any] = {
            "layers": f"{len(members)} x {kind}",
            "shape": f"{members[0]['out']} x {members[0]['in']}",
        }
        for key in list(members[0])[3:]:
            values = [member[key] for member in members if member[key] is not None]
            if values:
                shown[key] = sorted(values)[len(values) // 2]
        means.append(shown)
    print_rows("layers: median over each kind", means)


def print_rows(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for key in rows[0]:
        table.add_column(key.replace("_", " "), justify="left" if isinstance(rows[0][key], str) else "right")
    for row in rows:
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=160).print(table)


if __name__ == "__main__":
    sys.exit(main())
