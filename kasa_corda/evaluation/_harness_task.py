"""One of our tasks as a task of lm-evaluation-harness. Imports ``lm_eval``, an optional package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import Task, TaskConfig

RESULTS = "answers"
"""the harness' name for what it collects of every example"""


@dataclass
class Requests:
    """What is asked about one example."""

    prompt: str
    generates: bool
    continuations: list[str]


class BridgedTask(Task):  # type: ignore[misc]
    """``grade`` is given what the harness collected, ordered by example: (generated text or None, likelihoods)."""

    VERSION = 1
    OUTPUT_TYPE = "generate_until"

    def __init__(
        self,
        name: str,
        requests: Sequence[Requests],
        generation: dict[str, Any],
        grade: Callable[[list[tuple[str | None, list[tuple[float, bool]]]]], float],
    ) -> None:
        self.requests, self.generation, self.grade = requests, generation, grade
        super().__init__()
        self._config = TaskConfig(task=name, num_fewshot=0, repeats=1, generation_kwargs=generation)

    def download(self, *arguments: Any, **named: Any) -> None:
        """The examples are here already."""

    def has_training_docs(self) -> bool:
        return False

    def has_validation_docs(self) -> bool:
        return False

    def has_test_docs(self) -> bool:
        return True

    def test_docs(self) -> list[dict[str, Any]]:
        return [{"index": i, "prompt": request.prompt} for i, request in enumerate(self.requests)]

    def doc_to_text(self, doc: dict[str, Any]) -> str:
        return str(doc["prompt"])

    def doc_to_target(self, doc: dict[str, Any]) -> str:
        return ""

    def fewshot_context(self, doc: dict[str, Any], num_fewshot: int, **settings: Any) -> str:
        return str(doc["prompt"])

    def construct_requests(self, doc: dict[str, Any], ctx: str, **settings: Any) -> list[Instance]:
        request = self.requests[doc["index"]]
        asked: list[tuple[str, tuple[Any, ...]]] = []
        if request.generates:
            asked.append(("generate_until", (ctx, dict(self.generation))))
        asked += [("loglikelihood", (ctx, text)) for text in request.continuations]
        return [
            Instance(kind, doc, arguments, idx, metadata=settings["metadata"])
            for idx, (kind, arguments) in enumerate(asked)
        ]

    def process_results(self, doc: dict[str, Any], results: list[Any]) -> dict[str, Any]:
        generated = results[0] if self.requests[doc["index"]].generates else None
        likelihoods = results[1:] if generated is not None else results
        return {RESULTS: (doc["index"], generated, [(float(nll), bool(greedy)) for nll, greedy in likelihoods])}

    def aggregation(self) -> dict[str, Callable[[list[Any]], float]]:
        return {RESULTS: lambda found: self.grade([(text, scores) for _, text, scores in sorted(found)])}

    def higher_is_better(self) -> dict[str, bool]:
        return {RESULTS: True}
