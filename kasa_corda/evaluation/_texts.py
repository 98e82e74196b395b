"""The texts of a whole split: what is left to generate, shared out over the processes, written down as it is done."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._batching import BatchSize, Request, longest_first
from ._generate import generate
from .generation import shared_out
from .journal import Journal, prompt_key
from .vllm_backend import generate_by_vllm

if TYPE_CHECKING:
    from ..methods import Method
    from ..progress import Phase, Progress
    from ..tasks import Example
    from .decoding import Decoding


@dataclass
class Writer:
    """Generates texts with one model, by one backend."""

    model: Any
    tokenizer: Any
    size: BatchSize
    backend: str = "hf"
    vllm_python: str | None = None
    method: Method | None = None
    folder: Path | None = None
    """where vLLM's copy of the model lies meanwhile; None is the system's temporary folder"""
    journal: Journal | None = None

    def texts(
        self, prompts: Sequence[list[int]], examples: Sequence[Example], decoding: Decoding, progress: Progress
    ) -> list[list[str]]:
        """Per example its ``decoding.samples`` texts; the same on every process."""
        keys = [prompt_key(example.id, ids) for example, ids in zip(examples, prompts, strict=True)]
        requests = [Request(k, ids, s) for k, ids in zip(keys, prompts, strict=True) for s in range(decoding.samples)]
        settings = {"decoding": asdict(decoding), "backend": self.backend}
        known = self.journal.open(**settings) if self.journal else {}
        left = [request for request in requests if (request.key, request.sample) not in known]
        done = len(requests) - len(left)
        if done:
            progress.say(f"{done:,} of {len(requests):,} answers are there from an earlier attempt")
        try:
            with progress.phase("generate", len(requests), "answer", start=done) as phase:
                found = self._shared(left, decoding, phase)
        finally:
            if self.journal:
                self.journal.close()
        known |= {(r.key, r.sample): text for r, text in zip(left, found, strict=True)}
        return [[known[key, sample] for sample in range(decoding.samples)] for key in keys]

    def _shared(self, requests: Sequence[Request], decoding: Decoding, phase: Phase) -> list[str]:
        """Every process its share: of every length, without one request twice; vLLM is one process by itself."""
        from accelerate import PartialState

        processes = PartialState().num_processes if self.backend == "hf" else 1
        order = {id(request): i for i, request in enumerate(requests)}
        sorted_ = [order[id(request)] for request in longest_first(requests)]
        shares = [sorted_[n::processes] for n in range(processes)]

        def work(share: Sequence[int], _: int) -> list[str]:
            return self._written([requests[i] for i in share], decoding, Speed(phase, processes), self.journal)

        return shared_out(shares, work)

    def _written(self, requests: list[Request], decoding: Decoding, speed: Speed, journal: Journal | None) -> list[str]:
        def finished(request: Request, text: str, tokens: int) -> None:
            if journal is not None:
                journal.add([((request.key, request.sample), text)])
            speed.count(tokens)

        if self.backend == "hf" or not requests:
            return generate(self.model, self.tokenizer, requests, decoding, self.size, finished)
        assert self.vllm_python is not None
        return generate_by_vllm(
            self.model,
            self.tokenizer,
            self.method,
            requests,
            decoding,
            python=self.vllm_python,
            folder=self.folder,
            finished=finished,
        )

    def settings(self, prompts: Sequence[list[int]], decoding: Decoding) -> dict[str, Any]:
        """What else than the model decided what was written; stands in every result."""
        start = self.tokenizer.bos_token_id
        begins = start is not None and all(ids[:1] == [start] for ids in prompts)
        return {
            "backend": self.backend,
            "batch_size": self.size.asked,
            "batch_size_used": self.size.rows,
            "bos": self.tokenizer.bos_token if begins else None,
            "padding": {"side": "left", "token": self.tokenizer.pad_token} if self.backend == "hf" else None,
            "stop": list(decoding.stop),
            "decoding": asdict(decoding),
            "dtype": str(next(self.model.parameters()).dtype).removeprefix("torch."),
        }


class Speed:
    """Tells a phase of finished answers, with the tokens per second over all processes."""

    def __init__(self, phase: Phase, processes: int) -> None:
        self.phase, self.processes, self.tokens, self.began = phase, processes, 0, time.monotonic()

    def count(self, tokens: int) -> None:
        self.tokens += tokens * self.processes
        speed = self.tokens / max(time.monotonic() - self.began, 1e-9)
        self.phase.advance(self.processes, **{"tokens/s": f"{speed:,.0f}"})
