"""Examples per second of greedy generation on GSM8K, ours beside the loop of the papers' scripts, in one run.

    python benchmarks/generation_gsm8k.py --data DIR              # SmolLM2-135M-Instruct, one GPU: a few minutes
    python benchmarks/generation_gsm8k.py --data DIR --run RUN_DIR   # a trained run's model in its place
    python benchmarks/generation_gsm8k.py --data DIR --examples 8 --batch 4 --new 8 --rounds 1 --rate-examples 4  # CPU

DIR holds gsm8k/test.jsonl. The peer takes the questions as they come, pads each batch on the left and calls
``model.generate``; stop strings cut its texts afterwards. Model, tokens, batch size and dtype are the same. A second
part measures how many texts depend on the batch size, in float32 and in bfloat16.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import harness
import torch

from kasa_corda.cli.compose import composed
from kasa_corda.data import load_data
from kasa_corda.evaluation._batching import BatchSize, Request
from kasa_corda.evaluation._engine import Engine
from kasa_corda.evaluation._stopping import Stopping, end_tokens, text_of
from kasa_corda.evaluation.decoding import Decoding
from kasa_corda.models.loading import load_model
from kasa_corda.trained import load_run

TARGET = 3.0
SIZES = (4, 16, 64)
"""batch sizes whose texts are compared; the last one is the reference"""


@dataclass
class Subject:
    """A model, and the prompts it goes on from in the order of the file."""

    model: Any
    tokenizer: Any
    prompts: list[list[int]]
    decoding: Decoding
    described: str


@dataclass
class Counted:
    texts: list[str]
    tokens: int
    refused: str | None = None
    """why no CUDA graph was used, where it was tried"""


def subject(chosen: Any) -> Subject:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if chosen.run:
        trained = load_run(chosen.run)
        task, model, tokenizer = trained.task, trained.model, trained.tokenizer
        described = f"{trained.config.model.name}, {trained.config.method.name} trained on {trained.config.task.name}"
    overrides = ["task=gsm8k", "model=smollm2_135m", "method=base", f"data_dir={chosen.data}"]
    config = composed([*overrides, f"task.max_new_tokens={chosen.new}"])
    own, data = load_data(config)
    if not chosen.run:
        loaded = load_model(asdict(config.model), None, None)
        task, model, tokenizer, described = own, loaded.model.to(device), loaded.tokenizer, config.model.name
    examples = data.test["test"][: chosen.examples]
    prompts = task.prompts(examples, tokenizer)  # type: ignore[attr-defined]
    return Subject(model.float().eval(), tokenizer, prompts, own.decoding(), described)  # type: ignore[attr-defined]


def ours(subject: Subject, prompts: Sequence[list[int]], batch: int, graphs: bool = True) -> Counted:
    """As the evaluator generates."""
    found: dict[str, tuple[str, int]] = {}
    engine = Engine(
        subject.model,
        subject.tokenizer,
        subject.decoding,
        BatchSize(batch),
        lambda request, text, tokens: found.update({request.key: (text, tokens)}),
    )
    if not graphs:
        engine.graphs = None
    engine.run([Request(str(i), ids) for i, ids in enumerate(prompts)])
    refused = engine.graphs.refused if engine.graphs else None
    ordered = [found[str(i)] for i in range(len(prompts))]
    return Counted([text for text, _ in ordered], sum(tokens for _, tokens in ordered), refused)


def plain(subject: Subject, prompts: Sequence[list[int]], batch: int) -> list[list[int]]:
    """The loop of the papers' scripts: batches in the order of the file, padded, generated until the last one ends."""
    model, pad = subject.model, subject.tokenizer.pad_token_id
    device, ends = next(model.parameters()).device, sorted(end_tokens(model, subject.tokenizer))
    answers: list[list[int]] = []
    for start in range(0, len(prompts), batch):
        rows = prompts[start : start + batch]
        longest = max(map(len, rows))
        ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows], device=device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
        with torch.no_grad():
            out = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=subject.decoding.max_new_tokens,
                do_sample=False,
                eos_token_id=ends,
                pad_token_id=pad,
            )
        for row in out[:, longest:].tolist():
            answers.append(row[: next((i for i, token in enumerate(row) if token in ends), len(row))])
    return answers


def cut(subject: Subject, answers: Sequence[list[int]]) -> list[str]:
    stopping = Stopping(subject.decoding.max_new_tokens, subject.decoding.stop)
    return [stopping.cut(text_of(subject.tokenizer, answer)) for answer in answers]


def margins(
    subject: Subject, texts: Sequence[str], answers: Sequence[list[int]], differing: Sequence[int]
) -> list[float]:
    """Where two greedy texts part: by how much the best logit leads the second one, in float64."""
    exact = copy.deepcopy(subject.model).double()
    device, found = next(exact.parameters()).device, []
    for i in differing:
        answer = answers[i]
        shared = next(
            (k for k in range(len(answer)) if not texts[i].startswith(text_of(subject.tokenizer, answer[: k + 1]))),
            len(answer),
        )
        ids = torch.tensor([[*subject.prompts[i], *answer[:shared]]], device=device)
        with torch.no_grad():
            best = exact(input_ids=ids, logits_to_keep=1).logits[0, -1].topk(2).values
        found.append(float(best[0] - best[1]))
    return found


def rates(subject: Subject, count: int, dtype: torch.dtype) -> list[dict[str, Any]]:
    """Share of the texts that are others with another batch size."""
    cast = Subject(copy.deepcopy(subject.model).to(dtype), *list(vars(subject).values())[1:])
    prompts = subject.prompts[:count]
    reference = ours(cast, prompts, SIZES[-1]).texts
    rows = []
    for size in SIZES[:-1]:
        texts = ours(cast, prompts, size).texts
        other = sum(a != b for a, b in zip(texts, reference, strict=True))
        rows.append(
            {
                "what": f"{str(dtype).removeprefix('torch.')}: texts of batch size {size} that differ from {SIZES[-1]}",
                "texts": len(prompts),
                "differ": other,
                "share": other / len(prompts),
            }
        )
        print(rows[-1], flush=True)
    return rows


def timed(work: Any) -> tuple[float, Any]:
    harness.synchronise()
    began = time.perf_counter()
    found = work()
    harness.synchronise()
    return time.perf_counter() - began, found


def main() -> None:
    chosen = harness.arguments(
        __doc__, data="", run="", examples=1319, batch=64, new=256, rounds=2, rate_examples=200, target=TARGET
    )
    torch.backends.cuda.matmul.allow_tf32 = False
    it = subject(chosen)
    warm = Subject(it.model, it.tokenizer, it.prompts, Decoding(8, it.decoding.stop), it.described)
    ours(warm, it.prompts[: chosen.batch], chosen.batch)
    plain(warm, it.prompts[: chosen.batch], chosen.batch)
    samples: dict[str, list[float]] = {"ours": [], "plain loop": []}
    for _ in range(chosen.rounds):
        seconds, mine = timed(lambda: ours(it, it.prompts, chosen.batch))
        samples["ours"].append(seconds)
        seconds, answers = timed(lambda: plain(it, it.prompts, chosen.batch))
        samples["plain loop"].append(seconds)
        print({side: taken[-1] for side, taken in samples.items()}, flush=True)
    peers = cut(it, answers)
    differing = [i for i, (a, b) in enumerate(zip(mine.texts, peers, strict=True)) if a != b]
    lead = margins(it, mine.texts, answers, differing[:20])
    same = f"{len(peers) - len(differing)} of {len(peers)} greedy texts identical in float32"
    if differing:
        same += f"; where the others part, the best logit leads by at most {max(lead):.1e} (float64, first {len(lead)})"
    count = len(it.prompts)
    table = [
        {"what": f"{side}: examples per second", "value": count / statistics.median(taken)}
        for side, taken in samples.items()
    ]
    table.append({"what": "ours: tokens per second", "value": mine.tokens / statistics.median(samples["ours"])})
    table.append({"what": "tokens per answer", "value": mine.tokens / count})
    notes = [
        f"{it.described}, {count} test questions, at most {chosen.new} new tokens, batch size {chosen.batch}, float32"
    ]
    if torch.cuda.is_available():
        notes.append(f"no CUDA graph: {mine.refused}" if mine.refused else "steps are CUDA graphs")
        seconds, _ = timed(lambda: ours(it, it.prompts, chosen.batch, graphs=False))
        table.append({"what": "ours without CUDA graphs: examples per second", "value": count / seconds})
    for dtype in (torch.float32, torch.bfloat16):
        table += rates(it, min(chosen.rate_examples, count), dtype)
    ratio = statistics.median(samples["plain loop"]) / statistics.median(samples["ours"])
    harness.Result(
        name="generation_gsm8k",
        question="How much faster than a plain generate loop are GSM8K's answers written, at the same batch size?",
        sides={
            "ours": harness.Side(
                "the generation evaluator: finished rows give their slots to the next prompts", samples["ours"]
            ),
            "plain loop": harness.Side("model.generate on left-padded batches in file order", samples["plain loop"]),
        },
        same_answer=same,
        ratio=ratio,
        target=f"at least {chosen.target:g} x, identical greedy texts in float32",
        holds=ratio >= chosen.target and not differing,
        notes=notes,
        table=table,
    ).write(chosen.out)


if __name__ == "__main__":
    main()
