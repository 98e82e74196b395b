"""Judging saved answers: what to ask, asked once each by several workers, verdicts gathered into scores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...progress import Progress
from ..errors import of_mean
from . import JUDGE_SCORE, METRIC_OF, WIN_RATE, prompts, verdicts
from .client import Client, JudgeError, Stopped
from .costs import Estimate, dollars, estimate
from .items import Item
from .settings import PREFIX, REFERENCE, JudgeConfig
from .store import Store, request_key


@dataclass(frozen=True)
class Request:
    """One question to the judge: about one turn of one item, in one order."""

    key: str
    item: int
    turn: int
    swapped: bool
    """pairwise: whether the judged answer is shown as B"""
    messages: list[dict[str, str]]


@dataclass
class Judged:
    """Scores as fractions, their standard errors over items, and one row per item."""

    scores: dict[str, float]
    errors: dict[str, float]
    rows: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)


def opponents_of(items: Sequence[Item], settings: JudgeConfig, rows: list[dict[str, Any]] | None) -> list[Item] | None:
    """What each item is compared with: references, or the same items in other saved ``rows``; None for mode=single.

    DataError names the first item that has nothing to be compared with.
    """
    if settings.mode == "single":
        return None
    if settings.against == REFERENCE:
        answers = {item.id: item.references for item in items}
    else:
        answers = {str(row["id"]): tuple(row["answers"]) for row in rows or [] if isinstance(row.get("answers"), list)}
    found = []
    for item in items:
        other = answers.get(item.id)
        if other is None or len(other) != len(item.turns):
            raise DataError(f"{PREFIX}against={settings.against} has no answers to compare with for example {item.id}")
        found.append(item.with_answers(other))
    return found


def requests_for(
    items: Sequence[Item], settings: JudgeConfig, opponents: Sequence[Item] | None = None
) -> list[Request]:
    """Everything to ask: each turn once (single), or in both orders (pairwise)."""
    if opponents and settings.against == REFERENCE:  # one of the two answers must not also be the reference
        items, opponents = ([replace(item, references=None) for item in side] for side in (items, opponents))
    made = []

    def add(item: int, turn: int, swapped: bool, messages: list[dict[str, str]]) -> None:
        made.append(Request(request_key(settings, messages), item, turn, swapped, messages))

    for index, item in enumerate(items):
        for turn in range(len(item.turns)):
            if opponents is None:
                add(index, turn, False, prompts.single(item, turn))
            else:
                add(index, turn, False, prompts.pairwise(item, opponents[index], turn))
                add(index, turn, True, prompts.pairwise(opponents[index], item, turn))
    return made


def cost_of(requests: Sequence[Request], settings: JudgeConfig, store: Store) -> Estimate:
    """What asking for the verdicts that are not on disk yet would cost."""
    unknown = missing(requests, store)
    known = len({request.key for request in requests}) - len(unknown)
    return estimate([request.messages for request in unknown], known, settings)


def missing(requests: Sequence[Request], store: Store) -> list[Request]:
    """One request per verdict that is not on disk yet."""
    return list({request.key: request for request in requests if request.key not in store}.values())


def refuse_above(limit: float | None, found: Estimate, spent: float = 0.0) -> None:
    """JudgeError if an estimate, with what was ``spent`` before, is above the limit in dollars."""
    if limit is not None and found.dollars is not None and spent + found.dollars > limit:
        before = f" after ${spent:,.2f} before" if spent else ""
        raise JudgeError(f"judging would cost at most about ${found.dollars:,.2f}{before}, above max_cost={limit:g}")


def ask(requests: Sequence[Request], client: Client, store: Store, progress: Progress) -> float:
    """Ask for every verdict that is not on disk yet and keep it there. Returns the dollars spent (0 without prices).

    JudgeError if the judge fails; what was answered until then is kept and not asked for again.
    """
    unknown = missing(requests, store)
    spent = 0.0
    with progress.phase("judge", len(unknown), "verdict") as phase, ThreadPoolExecutor(client.settings.workers) as pool:
        waiting = [pool.submit(_verdict, request, client, store) for request in unknown]
        try:
            for done in as_completed(waiting):
                with suppress(Stopped):  # the request that made it stop says why
                    spent += done.result()
                    phase.advance()
        except BaseException:
            client.stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return spent


def _verdict(request: Request, client: Client, store: Store) -> float:
    """Ask, keep, and tell the dollars spent. A failure stops the other workers before their next request."""
    try:
        return _asked(request, client, store)
    except BaseException:
        client.stopped.set()
        raise


def _asked(request: Request, client: Client, store: Store) -> float:
    settings = client.settings
    reply = client.complete(request.messages)
    usage = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}
    about = {"model": settings.model, "base_url": settings.base_url, "mode": settings.mode, "turn": request.turn}
    store.add({"key": request.key, "reply": reply.text, **usage, **about, "time": time.time()})
    # an endpoint that does not count is taken to cost what was estimated
    expected = estimate([request.messages], 0, settings)
    prompt_tokens = reply.prompt_tokens or expected.prompt_tokens
    return dollars(settings, prompt_tokens, reply.completion_tokens or expected.verdict_tokens) or 0.0


def gather(items: Sequence[Item], requests: Sequence[Request], settings: JudgeConfig, store: Store) -> Judged:
    """Scores from the verdicts on disk. An item's score is the mean over its turns; the score is the mean over items.

    Turns whose verdict can't be read are left out, counted and noted.
    """
    replies: dict[tuple[int, int], dict[bool, str]] = {}
    for request in requests:
        replies.setdefault((request.item, request.turn), {})[request.swapped] = store[request.key]["reply"]
    values = {place: _value(found, settings.mode) for place, found in replies.items()}
    metric = METRIC_OF[settings.mode]
    rows: list[dict[str, Any]] = []
    for index, item in enumerate(items):
        turns = [values[index, turn] for turn in range(len(item.turns))]
        said = [list(replies[index, turn].values()) for turn in range(len(item.turns))]
        rows.append({metric: _mean(turns), "judge_turns": turns, "judge_replies": said})
    judged = Judged({}, {}, rows)
    _score(judged, metric, [row[metric] for row in rows])
    if longest := max((len(item.turns) for item in items if len(item.turns) > 1), default=0):
        for turn in range(longest):
            _score(judged, f"{metric}_turn_{turn + 1}", [v for (_, t), v in values.items() if t == turn])
    judged.notes = _notes(values, replies, settings)
    return judged


def judge(
    items: Sequence[Item],
    settings: JudgeConfig,
    client: Client,
    store: Store,
    progress: Progress,
    *,
    opponents: Sequence[Item] | None = None,
    spent: float = 0.0,
) -> tuple[Judged, float]:
    """Estimate, refuse or ask, and gather: (scores, dollars spent on top of ``spent``)."""
    requests = requests_for(items, settings, opponents)
    expected = cost_of(requests, settings, store)
    progress.say(f"judge {settings.model} at {client.address}, {settings.mode}: {expected.text()}")
    refuse_above(settings.max_cost, expected, spent)
    spent += ask(requests, client, store, progress)
    return gather(items, requests, settings, store), spent


def verdicts_file(settings: JudgeConfig) -> Path:
    """Where the verdicts of a judge are kept: one file per judge in the user's cache, shared by all runs."""
    from ...models.cache import cache_dir

    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in str(settings.model)).strip(".") or "judge"
    return cache_dir() / "judge" / f"{name[:80]}.jsonl"


def _value(replies: dict[bool, str], mode: str) -> float | None:
    if mode == "single":
        rated = verdicts.rating(replies[False])
        return None if rated is None else rated / verdicts.HIGHEST
    return verdicts.settled(verdicts.choice(replies[False]), verdicts.choice(replies[True]))


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def _score(judged: Judged, name: str, values: Sequence[float | None]) -> None:
    there = [value for value in values if value is not None]
    judged.scores[name] = sum(there) / len(there) if there else float("nan")
    judged.errors[name] = of_mean(there) if there else float("nan")


def _notes(
    values: dict[tuple[int, int], float | None], replies: dict[tuple[int, int], dict[bool, str]], settings: JudgeConfig
) -> list[str]:
    """Who judged, how often no verdict could be read, and how often the order of two answers decided."""
    how = {JUDGE_SCORE: "ratings 1 to 10, shown / 10", WIN_RATE: f"pairwise against {settings.against}, both orders"}
    notes = [f"judged by {settings.model} at {settings.base_url} ({how[METRIC_OF[settings.mode]]}; prompts of our own)"]
    unread = sum(value is None for value in values.values())
    if unread:
        notes.append(f"no verdict could be read in {unread:,} of {len(values):,} replies of the judge; left out")
    if settings.mode == "pairwise":
        pairs = [(verdicts.choice(found[False]), verdicts.choice(found[True])) for found in replies.values()]
        contrary = sum(pair in (("A", "A"), ("B", "B")) for pair in pairs)
        notes.append(f"the judge preferred the same place in both orders in {contrary:,} of {len(pairs):,} comparisons")
    return notes
