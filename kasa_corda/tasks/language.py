"""Running text: the perplexity of a language model on text that it was not trained on.

Nothing is answered. The lines of the text are joined and cut into windows of ``max_length`` tokens that do not overlap
(``evaluation/perplexity.py``), and two scores are reported: ``perplexity``, where lower is better, and
``answer_likelihood`` = 1 / perplexity, a fraction as all other scores, where higher is better.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.schema import option
from ..errors import ConfigError
from ..evaluation.base import Evaluation
from ..evaluation.generation import LIKELIHOOD
from . import TASKS
from ._causal import CausalTask
from ._causal_config import CausalConfig
from ._files import file_text
from ._rows import Row, Rows, _folder, read_rows
from .base import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ..progress import Progress

PERPLEXITY = "perplexity"


@dataclass
class LanguageConfig(CausalConfig):
    """Text to be read, line by line."""

    prompt: str = option("{question}", "not used: there is no question")
    column: str = option("text", "hub column that holds a line")
    separator: str = option("\n\n", "stands between lines when they are joined")
    strip: bool = option(False, "drop white space around lines; false keeps a line's own end, empty lines are empty")
    whole_windows: bool = option(True, "leave out the last window if it is shorter, as the papers do")


@TASKS.register("language")
class Language(CausalTask):
    Config = LanguageConfig

    def check(self) -> None:
        super().check()
        if set(self.config.files) != {"test"} or not isinstance(self.config.files["test"], str):
            raise ConfigError(f"task.files of {self.config.name} must name one test file and nothing else")

    @property
    def text_metrics(self) -> tuple[str, ...]:
        return ()

    @property
    def choice_metrics(self) -> tuple[str, ...]:
        return (PERPLEXITY,)

    def example(self, row: Row, key: str) -> Example:
        """A line; an empty one counts as well, it stands between two separators."""
        text = str(row.values.get(self.config.column, ""))
        return Example(key, text.strip() if self.config.strip or not text.strip() else text)

    def _examples(self, data_dir: Path | None, trains: bool) -> tuple[list[Example], list[Example], Rows]:
        folder = _folder(data_dir, self.config.folder)
        file = folder / self.config.files["test"] if folder else None
        if file is not None and file.is_file():
            lines = enumerate(io.StringIO(file_text(file)), 1)
            rows = [Row({self.config.column: line}, f"{file}, line {number}") for number, line in lines]
            found = Rows({"test": rows}, f"local folder {folder}")
        else:
            found = read_rows(self.config, data_dir)
        test = [self.example(row, f"test-{i}") for i, row in enumerate(found.splits["test"])]
        expected = self.config.sizes.get(self.config.splits["test"], len(test))
        if expected != len(test):
            found.notes.append(f"{self.config.files['test']} has {len(test):,} lines, published are {expected:,}")
        return [], test, found

    def evaluated(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        examples: list[Example],
        batch_size: int,
        progress: Progress,
    ) -> Evaluation:
        """Perplexity of the lines as one text; one row per window."""
        from ..evaluation.perplexity import perplexity

        config = self.config
        found = perplexity(
            model,
            tokenizer,
            [example.text for example in examples],
            config.max_length,
            separator=config.separator,
            whole_windows=config.whole_windows,
            batch_size=max(1, batch_size * SHORT // config.max_length),
            progress=progress,
        )
        likelihood, error = 1 / found.value, found.error
        rows = [
            {"id": f"window-{i}", "answer_nll": nll / tokens, "answer_tokens": tokens}
            for i, (nll, tokens) in enumerate(found.rows)
        ]
        return Evaluation(
            {PERPLEXITY: found.value, LIKELIHOOD: likelihood},
            rows,
            {PERPLEXITY: found.value * error, LIKELIHOOD: likelihood * error},
        )


SHORT = 128
"""evaluator.batch_size is meant for texts of about this many tokens; of longer windows fewer are read together"""
