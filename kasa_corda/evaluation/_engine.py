"""Generation with rows that come and go: where a text is finished, the next prompt takes its place.

A batch of fixed members runs until its longest text is done, mostly for rows that are long finished. Here the longest
prompts come first, a finished row's slot is given to the next prompt as soon as enough are free to be read together,
and at the end, when no prompt is left, the batch shrinks with its rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ..models.key_values import NAME, cache_in
from ._batching import BatchSize, Finished, Request, left_padded, longest_first, memory_watched
from ._choice import choose, random_numbers
from ._graphs import Graphs
from ._slots import COLUMNS, Pair, Slots, aligned
from ._stopping import Stopping, end_tokens, text_of
from .decoding import Decoding

REFILL = 1 / 8
"""free share of the batch from which on the next prompts are read"""
SHRINK = 0.75
"""with no prompt left, the batch is cut down to its unfinished rows once they are at most this share of it"""
STRIDE = 4
"""steps on a GPU before anyone looks at the tokens: looking waits for the GPU, and a few tokens too many are cut off"""


@dataclass
class Row:
    """A text that is being generated; its last token is not in the cache yet."""

    request: Request
    answer: list[int] = field(default_factory=list)

    @property
    def cached(self) -> int:
        return len(self.request.ids) + len(self.answer) - 1


@dataclass
class Waiting:
    """Rows without a slot: keys and values (rows, heads, columns, width) of every layer."""

    rows: list[Row]
    pairs: list[Pair]

    def take(self, count: int) -> tuple[list[Row], list[Pair]]:
        return self.rows[:count], [(keys[:count], values[:count]) for keys, values in self.pairs]

    def drop(self, count: int) -> None:
        self.rows, self.pairs = self.rows[count:], [(keys[count:], values[count:]) for keys, values in self.pairs]


class Engine:
    """Generates in evaluation mode; ``size`` may get smaller on the way. See ``slots_fit`` for the models it takes."""

    def __init__(self, model: Any, tokenizer: Any, decoding: Decoding, size: BatchSize, finished: Finished) -> None:
        self.model, self.tokenizer, self.decoding, self.size, self.finished = model, tokenizer, decoding, size, finished
        self.device = next(model.parameters()).device
        self.ends = end_tokens(model, tokenizer)
        self.stopping = Stopping(decoding.max_new_tokens, decoding.stop)
        self.graphs = Graphs(self._forward) if self.device.type == "cuda" else None
        self.stride = STRIDE if self.graphs else 1
        self.queue: deque[Request] = deque()
        self.waiting: deque[Waiting] = deque()
        self.rows: list[Row | None] = []
        """what is in every slot"""
        self.virtual = 0
        """columns that the model puts before every prompt"""
        self.cache: Any = None

    def run(self, requests: Sequence[Request]) -> None:
        self.queue.extend(longest_first(requests))
        with torch.inference_mode():
            while self.queue or self.waiting or self.active:
                with memory_watched(self.size) as trouble:
                    self._turn()
                if trouble.out_of_memory:
                    self._give_way()

    @property
    def active(self) -> list[int]:
        """Slots with a row."""
        return [slot for slot, row in enumerate(self.rows) if row is not None]

    def _turn(self) -> None:
        room = self.size.rows - len(self.active)
        more = bool(self.queue or self.waiting)
        if more and room > 0 and (not self.active or room >= REFILL * self.size.rows):
            if self.waiting:
                self._admit(room)
            else:
                self._read(list(islice(self.queue, room)))
            return
        if not more and len(self.active) <= SHRINK * len(self.rows):
            self._compact()
        self._go_on()

    def _read(self, requests: list[Request]) -> None:
        """Prompts become rows with their first token. The samples of a prompt share the work."""
        prompts = list(dict.fromkeys(tuple(request.ids) for request in requests))
        number = {prompt: i for i, prompt in enumerate(prompts)}
        which = [number[tuple(request.ids)] for request in requests]
        padded = left_padded(prompts, self.tokenizer.pad_token_id, self.device)
        out = self.model(
            input_ids=padded.ids,
            attention_mask=padded.mask,
            position_ids=padded.position,
            use_cache=True,
            logits_to_keep=1,
        )
        cache, longest = cache_in(out), padded.ids.shape[1]
        drawn = random_numbers(requests, self.decoding)
        first = None if drawn is None else drawn[:, 0].to(self.device)
        tokens = choose(out.logits[:, -1][which], self.decoding, first).tolist()
        self.virtual = cache.get_seq_length() - longest
        pairs = aligned(cache, [longest - len(prompt) for prompt in prompts], which, self.virtual)
        for _ in requests:
            self.queue.popleft()
        rows = [Row(request) for request in requests]
        going = [i for i, (row, token) in enumerate(zip(rows, tokens, strict=True)) if not self._finishes(row, [token])]
        if going:
            part = pairs if len(going) == len(rows) else [(k[going], v[going]) for k, v in pairs]
            self.waiting.append(Waiting([rows[i] for i in going], part))

    def _admit(self, room: int) -> None:
        """Rows that wait get slots."""
        if self.cache is None:
            count = min(self.size.rows, len(self.queue) + sum(len(group.rows) for group in self.waiting))
            self.cache, self.rows = Slots(count, self.device), [None] * count
            self._renew()
        free = [slot for slot, row in enumerate(self.rows) if row is None][:room]
        rows, pairs = self.waiting[0].take(len(free))
        slots = free[: len(rows)]
        if self.cache.put(pairs, slots) and self.graphs:
            self.graphs.forget()
        self.waiting[0].drop(len(rows))
        if not self.waiting[0].rows:
            self.waiting.popleft()
        for slot, row in zip(slots, rows, strict=True):
            self.rows[slot] = row
        if self.drawn is not None:
            numbers = random_numbers([row.request for row in rows], self.decoding)
            self.drawn[torch.tensor(slots, device=self.device)] = numbers.to(self.device)  # type: ignore[union-attr]
        self._tell()

    def _renew(self) -> None:
        """New tensors for the rows' state, when the slots are other ones."""
        slots = len(self.rows)
        self.state = torch.zeros(4, slots, dtype=torch.int64, device=self.device)
        self.token, self.position, self.bound, self.start = self.state
        self.drawn: Tensor | None = None
        if self.decoding.temperature is not None:
            self.drawn = torch.zeros(slots, self.decoding.max_new_tokens, dtype=torch.float64, device=self.device)
            if rows := self.active:
                numbers = random_numbers([self.rows[slot].request for slot in rows], self.decoding)  # type: ignore[union-attr]
                self.drawn[torch.tensor(rows, device=self.device)] = numbers.to(self.device)  # type: ignore[union-attr]
        if self.graphs:
            self.graphs.forget()
        self._tell()

    def _tell(self) -> None:
        """The device learns which tokens come next, and where; rows of free slots stay at column 0."""
        rows = [self._state(row) for row in self.rows]
        self.state.copy_(torch.tensor(rows, dtype=torch.int64).T)

    def _state(self, row: Row | None) -> tuple[int, int, int, int]:
        """(token, its position, the last position there can be, the answer's first position)."""
        if row is None:
            return 0, 0, 0, 1
        start = len(row.request.ids)
        return row.answer[-1], row.cached, start + self.decoding.max_new_tokens - 1, start

    def _go_on(self) -> None:
        """One more token, or a few, for every row."""
        rows = [row for row in self.rows if row is not None]
        width = self.virtual + max(min(row.cached + self.stride, self._state(row)[2] + 1) for row in rows)
        if self.graphs:
            width = -(-width // COLUMNS) * COLUMNS
        if self.cache.reserve(width) and self.graphs:
            self.graphs.forget()
        found: list[Tensor] = []
        try:
            for _ in range(self.stride):
                (self.graphs.step(width, self.state) if self.graphs else self._forward())
                found.append(self.token.clone())
        finally:  # what was computed before memory ran out counts
            self._look([tokens.tolist() for tokens in found])

    def _forward(self) -> None:
        """One step of all slots. Reads and writes ``state`` and the cache in place, at fixed shapes."""
        real = torch.arange(self.cache.width - self.virtual, device=self.device)
        self.cache.column = self.position + self.virtual
        out = self.model(
            input_ids=self.token[:, None],
            attention_mask=(real <= self.position[:, None]).long(),
            position_ids=self.position[:, None],
            use_cache=True,
            logits_to_keep=1,
            **{NAME: self.cache},
        )
        drawn = None
        if self.drawn is not None:
            following = (self.position + 1 - self.start).clamp(0, self.decoding.max_new_tokens - 1)
            drawn = self.drawn.gather(1, following[:, None])[:, 0]
        self.token.copy_(choose(out.logits[:, -1], self.decoding, drawn))
        self.position.copy_(torch.minimum(self.position + 1, self.bound))

    def _look(self, steps: list[list[int]]) -> None:
        """Hand out the tokens of some steps; rows that are finished leave their slots."""
        left = False
        for slot in self.active if steps else ():
            row = self.rows[slot]
            assert row is not None
            if self._finishes(row, [tokens[slot] for tokens in steps]):
                self.rows[slot], left = None, True
        if left:
            self._tell()

    def _finishes(self, row: Row, tokens: Sequence[int]) -> bool:
        """Add tokens to an answer, up to an end token; whether it is finished now, which is told then."""
        before, ended = len(row.answer), False
        for token in tokens:
            ended = token in self.ends or len(row.answer) == self.stopping.max_new_tokens
            if ended:
                break
            row.answer.append(token)
        if not ended and not self.stopping.over(self.tokenizer, row.answer, len(row.answer) - before):
            return False
        self.finished(row.request, self.stopping.cut(text_of(self.tokenizer, row.answer)), len(row.answer))
        return True

    def _compact(self) -> None:
        if not self.active:
            return
        self.rows = [self.rows[slot] for slot in self.cache.compact(self.active)]
        self._renew()

    def _give_way(self) -> None:
        """After memory ran out: rows beyond the smaller batch wait in main memory, with all that is known of them."""
        for group in self.waiting:
            group.pairs = [(keys.cpu(), values.cpu()) for keys, values in group.pairs]
        if self.cache is None:
            return
        if self.graphs:
            self.graphs.forget()
        slots = self.active
        kept, others = slots[: self.size.rows], slots[self.size.rows :]
        parked = [row for row in (self.rows[slot] for slot in others) if row is not None]
        columns = self.virtual + max((row.cached for row in parked), default=0)
        pairs = self.cache.part(kept, others, columns, self.size.rows)
        if parked:
            self.waiting.appendleft(Waiting(parked, pairs))
        self.rows = [self.rows[slot] for slot in kept] + [None] * (self.size.rows - len(kept))
        self._renew()
