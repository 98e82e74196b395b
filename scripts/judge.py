"""Judge the saved answers of finished runs: python scripts/judge.py RUN_DIR... --base-url URL --model NAME

Asks an OpenAI-compatible endpoint about every answer, keeps each verdict as it comes (a second call asks for what is
missing only), and writes scores into predictions/ and result.json, where tables find them. An estimate of the cost is
shown first. Runs as evaluator=judged does, with the same prompts (kasa_corda/evaluation/judge/prompts.py).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kasa_corda.errors import KasaCordaError
from kasa_corda.evaluation.judge.client import Client
from kasa_corda.evaluation.judge.later import judge_run
from kasa_corda.evaluation.judge.settings import JudgeConfig, check
from kasa_corda.progress import Progress
from kasa_corda.report.format import percent
from kasa_corda.store import find_runs


def main(arguments: list[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    settings = JudgeConfig(
        base_url=chosen.base_url,
        model=chosen.model,
        mode=chosen.mode,
        against=chosen.against,
        api_key_env=chosen.api_key_env,
        temperature=chosen.temperature,
        max_tokens=chosen.max_tokens,
        price_in=chosen.price_in,
        price_out=chosen.price_out,
        max_cost=chosen.max_cost,
        workers=chosen.workers,
    )
    try:
        check(settings)
        runs = find_runs(*chosen.runs)
        if not runs:
            raise KasaCordaError(f"there are no runs in {', '.join(map(str, chosen.runs))}")
        client = None if chosen.estimate else Client(settings)
        if client:
            client.probe()
        spent = 0.0
        for directory in runs:
            spent, scores = judge_run(directory, settings, client, Progress(), last=chosen.last, spent=spent)
            for name, value in scores.items():
                print(f"{directory.path}  {name} {percent(value)}")
    except KasaCordaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("runs", nargs="+", type=Path, help="run directories, or folders that hold some")
    made.add_argument("--base-url", required=True, help="e.g. http://localhost:8000/v1")
    made.add_argument("--model", required=True, help="the judge's name there")
    made.add_argument("--mode", choices=("single", "pairwise"), default="single", help="default: single")
    made.add_argument("--against", help="pairwise: a run directory, or 'reference' for the data set's own answers")
    made.add_argument("--api-key-env", metavar="NAME", help="environment variable that holds the key")
    made.add_argument("--temperature", type=_or_none, default=0.0, help="'none' leaves it to the endpoint; default: 0")
    made.add_argument("--max-tokens", type=int, default=1024, help="longest verdict; default: 1024")
    made.add_argument("--price-in", type=float, metavar="USD", help="per million prompt tokens")
    made.add_argument("--price-out", type=float, metavar="USD", help="per million tokens of verdicts")
    made.add_argument("--max-cost", type=float, metavar="USD", help="refuse to start above this, over all runs")
    made.add_argument("--workers", type=int, default=4, help="requests under way at once; default: 4")
    made.add_argument("--last", action="store_true", help="also the answers of the last state, not only of the best")
    made.add_argument("--estimate", action="store_true", help="only show the cost; nothing is sent")
    return made


def _or_none(text: str) -> float | None:
    return None if text.lower() == "none" else float(text)


if __name__ == "__main__":
    sys.exit(main())
