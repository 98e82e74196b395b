"""What every task answered by a language model shares: prompts, tokens, splits, scores, further evaluated tasks."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Optional

from omegaconf import MISSING

from ..config.schema import TaskConfig, option
from ..errors import ConfigError, DataError, unknown
from ..evaluation.base import Evaluation
from ..evaluation.decoding import Decoding
from ..evaluation.errors import of_mean
from ..evaluation.generation import EXACT_MATCH, LIKELIHOOD
from ._rows import Row, Rows, read_rows
from ._splits import carve, digest, draw, fingerprint, overlap, text_key
from .base import Example, Task, TaskData

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ..evaluation._likelihood import Continuation

CHUNK = 4096
"""examples tokenised together"""


@dataclass
class CausalConfig(TaskConfig):
    """Fields of a task whose answers a language model writes."""

    prompt: str = option(MISSING, "text that the model goes on from; {question} stands for the question")
    response: str = option("{answer}", "text to learn; {answer} and {solution} stand for what the data set has")
    test_suffix: str = option("", "added to the prompt in evaluation, not in training")
    chat: Optional[str] = option(
        None,
        "what the user says in the tokenizer's own chat template ({question} stands for the question), instead of"
        " prompt; null uses prompt as it is",
        later=True,
    )
    loss_on: str = option("response", "tokens that are learned", choices=("response", "all"))
    max_new_tokens: int = option(64, "longest generated answer in tokens", at_least=1)
    stop: list[str] = option([], "texts that end an answer, beside the model's end token")
    num_beams: int = option(1, "beams of the search; 1 is greedy", at_least=1, later=True)
    length_penalty: float = option(1.0, "beam search: above 0 favours longer answers", later=True)
    no_repeat_ngram_size: int = option(
        0, "beam search: no sequence of this many tokens twice; 0 allows it", at_least=0, later=True
    )
    samples: int = option(1, "answers per question", at_least=1, later=True)
    temperature: Optional[float] = option(
        None, "above 0 samples answers; null takes the most likely tokens", above=0, later=True
    )
    top_p: float = option(
        1.0, "sampling: from the most likely tokens that hold this probability", above=0, at_most=1, later=True
    )
    select_by: str = option(LIKELIHOOD, "metric that chooses epochs; answer_likelihood needs no generation")
    test_examples: Optional[int] = option(
        None, "evaluate only this many examples of each test split (fixed draw); null is all", at_least=1
    )
    also_evaluate: Any = option(
        None, "further tasks (names of configs/task) evaluated with the trained model, to see what it forgets"
    )
    folder: Optional[str] = option(MISSING, "folder of the original files in data_dir")
    files: dict[str, Any] = option(
        {"train": "train.jsonl", "test": "test.jsonl"},
        "original file (or list of files) of each split: .jsonl or .txt (JSON lines), .json (a list), .csv; also .gz",
    )
    package: Optional[str] = option(
        None, "pinned Python package that carries the files (see kasa_corda/models/packages.py)", later=True
    )
    generated: Optional[str] = option(None, "generator of the examples (a miniature); no file is read", later=True)
    hub_id: Optional[str] = option(MISSING, "hub data set, or a local folder with that data set's layout")
    hub_config: Optional[str] = option(None, "its configuration")
    hub_revision: Optional[str] = option(None, "hub branch, tag or commit; null is the default branch")
    splits: dict[str, str] = option({"train": "train", "test": "test"}, "published name of each split")
    train_percent: Optional[int] = option(
        None,
        "without a local training file: share of the test file, by hash of the text, that becomes the training set",
        above=0,
        below=100,
    )


@dataclass(frozen=True)
class Tokens:
    """One example as token ids: prompt, response and end token, cut at max_length."""

    ids: list[int]
    start: int
    """index of the response's first token"""
    end: int
    """index behind the response's last token; the end token comes here unless it was cut off"""


class CausalTask(Task):
    """Families add how a row becomes an example (``example``), and what counts of a text (``extract``, ``matches``) or
    how texts are scored (``grade``)."""

    Config: ClassVar[type[CausalConfig]] = CausalConfig

    def __init__(self, config: Any) -> None:
        from ._further import further_settings, further_task

        super().__init__(config)
        self._cut: set[str] = set()
        settings = further_settings(getattr(config, "also_evaluate", None))
        self.further = {name: further_task(plain) for name, plain in settings.items()}

    @property
    def num_labels(self) -> None:
        return None

    @property
    def select_metric(self) -> str:
        return self.config.select_by

    @property
    def truncated(self) -> int:
        return len(self._cut)

    @abstractmethod
    def example(self, row: Row, key: str) -> Example:
        """A published row as an example: text is the question, label the accepted answers, target the response."""

    def extract(self, text: str) -> str | None:
        """The answer in a generated text; None if it has none."""
        raise NotImplementedError(f"task family {self.config.family} has no rule to extract answers")

    def matches(self, prediction: str | None, accepted: list[str]) -> bool:
        """Whether an extracted answer is one of the accepted ones."""
        raise NotImplementedError(f"task family {self.config.family} has no rule to compare answers")

    @property
    def text_metrics(self) -> tuple[str, ...]:
        """Metrics that ``grade`` gives."""
        return (EXACT_MATCH,)

    @property
    def choice_metrics(self) -> tuple[str, ...]:
        """Metrics that ``grade_continuations`` gives; none where the task has no ``continuations``."""
        return ()

    @property
    def metrics(self) -> tuple[str, ...]:
        """Everything this task can be scored by, further tasks as <task>_<metric>."""
        further = [
            f"{name}_{m}" for name, task in self.further.items() if isinstance(task, CausalTask) for m in task.metrics
        ]
        own = (*self.text_metrics, *self.choice_metrics, LIKELIHOOD) if "test" in self.config.files else ()
        return (*own, *further)

    def grade(self, examples: list[Example], texts: list[list[str]]) -> Evaluation:
        """Scores of generated texts (at least one per example), with one row per example."""
        predictions = [self.extract(first) for first, *_ in texts]
        right = [float(self.matches(p, e.label)) for p, e in zip(predictions, examples, strict=True)]
        rows = [{"prediction": p, EXACT_MATCH: r, "score": r} for p, r in zip(predictions, right, strict=True)]
        return Evaluation({EXACT_MATCH: sum(right) / len(right)}, rows, {EXACT_MATCH: of_mean(right)})

    def continuations(self, example: Example) -> list[str]:
        """Texts after the prompt whose likelihoods ``choice_metrics`` compare."""
        raise NotImplementedError(f"task family {self.config.family} has no continuations to compare")

    def grade_continuations(self, examples: list[Example], scored: list[list[Continuation]]) -> Evaluation:
        """Scores from the likelihoods of ``continuations``, with one row per example."""
        raise NotImplementedError(f"task family {self.config.family} has no continuations to compare")

    def decoding(self) -> Decoding:
        """How answers are generated."""
        config = self.config
        return Decoding(
            config.max_new_tokens,
            list(config.stop),
            config.num_beams,
            config.length_penalty,
            config.no_repeat_ngram_size,
            config.samples,
            config.temperature,
            config.top_p,
        )

    def check(self) -> None:
        config = self.config
        if config.kind != "generation":
            raise ConfigError(f"task.kind={config.kind} does not fit task.family={config.family}; use generation")
        for key in ("files", "splits"):
            given = set(getattr(config, key))
            if not given or given - {"train", "test"}:
                raise ConfigError(
                    f"task.{key} names {', '.join(sorted(given)) or 'nothing'}; it must name train and test"
                )
        if set(config.files) != set(config.splits):
            raise ConfigError(f"task.files names {', '.join(config.files)}, task.splits {', '.join(config.splits)}")
        if "test" not in config.files and not self.further:
            raise ConfigError(f"task={config.name} has no test set; name what to evaluate: task.also_evaluate=[gsm8k]")
        self._check_decoding()
        if "{question}" not in config.prompt:
            raise ConfigError(f"task.prompt={config.prompt!r} must hold {{question}}")
        if not config.response.strip():
            raise ConfigError("task.response is empty; it must hold {answer} or {solution}")
        if "" in config.stop:
            raise ConfigError("task.stop holds an empty text, which would end every answer at once")
        for name, task in self.further.items():
            if not isinstance(task, CausalTask):
                raise ConfigError(f"task.also_evaluate={name} is {task.config.kind}; only generation tasks can be")
            if name == config.name or task.further:
                raise ConfigError(f"task.also_evaluate={name} must be another task that evaluates no further ones")
            if "test" not in task.config.files:
                raise ConfigError(f"task.also_evaluate={name} has no test set")
            task.check()
        if config.metric not in self.metrics:
            raise ConfigError(unknown("task.metric", config.metric, self.metrics))
        selecting = (*self.text_metrics, *self.choice_metrics, LIKELIHOOD)
        if config.select_by not in selecting:
            raise ConfigError(unknown("task.select_by", config.select_by, selecting))

    def _check_decoding(self) -> None:
        config = self.config
        if config.temperature is not None and config.num_beams > 1:
            raise ConfigError(
                f"task.temperature={config.temperature} samples, task.num_beams={config.num_beams} searches; choose one"
            )
        if config.samples > 1 and config.temperature is None:
            raise ConfigError(f"task.samples={config.samples} needs task.temperature; greedy answers are all the same")

    def load(self, data_dir: Path | None, selection: str) -> TaskData:
        config = self.config
        train, test, found = self._examples(data_dir)
        notes = found.notes
        select: list[Example] = []
        if selection == "held_out":
            train, select = carve(train, config.held_out)
        tests = {"test": draw(test, config.test_examples)} if test else {}
        if test and len(tests["test"]) < len(test):
            notes.append(f"evaluated on {len(tests['test']):,} of {len(test):,} test examples (fixed draw)")
        available = len(train)
        train = draw(train, config.train_examples)
        if len(train) < available:
            notes.append(f"trained on {len(train):,} of {available:,} training examples (fixed draw)")
        for name, task in self.further.items():
            assert isinstance(task, CausalTask)
            tests[name], further_notes = task.test_split(data_dir, name, config.test_examples)
            notes += [f"{name}: {note}" for note in further_notes]
        for name, examples in tests.items():
            shared = overlap(train, examples)
            if shared:
                whose = "test" if name == "test" else name
                notes.append(f"{shared:,} of {len(examples):,} {whose} questions are also in the training set")
        if selection != "held_out":
            select = next(iter(tests.values()))
        key = fingerprint({"train": train, "select": select, **tests})
        return TaskData(train, select, tests, found.source, key, notes)

    def test_split(self, data_dir: Path | None, name: str, at_most: int | None) -> tuple[list[Example], list[str]]:
        """The test examples of a further task, marked with its name, and notes on them."""
        _, test, found = self._examples(data_dir)
        limits = [limit for limit in (at_most, self.config.test_examples) if limit is not None]
        chosen = draw(test, min(limits, default=None))
        for example in chosen:
            example.task = name
        notes = [*found.notes, f"from {found.source}"]
        if len(chosen) < len(test):
            notes.append(f"evaluated on {len(chosen):,} of {len(test):,} test examples (fixed draw)")
        return chosen, notes

    def _examples(self, data_dir: Path | None) -> tuple[list[Example], list[Example], Rows]:
        """(train, test, where they came from)."""
        config = self.config
        found = read_rows(config, data_dir, optional=("train",) if config.train_percent else ())
        splits = {
            name: [self.example(row, f"{name}-{i}") for i, row in enumerate(rows)]
            for name, rows in found.splits.items()
        }
        for name, examples in splits.items():
            expected = config.sizes.get(config.splits[name], len(examples))
            if expected != len(examples):
                found.notes.append(f"{config.splits[name]} has {len(examples):,} examples, published are {expected:,}")
        if not config.train_percent or "train" in splits:
            return splits.get("train", []), splits.get("test", []), found
        train: list[Example] = []
        test: list[Example] = []
        for example in splits["test"]:
            trains = digest("training part", text_key(example)) % 100 < config.train_percent
            (train if trains else test).append(example)
        found.notes.append(
            f"no {config.files['train']}: {config.files['test']} divided by hash of the question into a training part "
            f"({len(train):,}) and a test part ({len(test):,})"
        )
        return train, test, found

    def owner(self, examples: list[Example]) -> CausalTask:
        """The task that a split belongs to: this one, or a further one."""
        name = examples[0].task
        task = self if name is None else self.further[name]
        assert isinstance(task, CausalTask)
        return task

    def combine(self, scores: dict[str, dict[str, float]]) -> dict[str, float]:
        """This task's metrics by name, a further task's as <task>_<metric>."""
        further = {f"{n}_{metric}": v for n in self.further for metric, v in scores.get(n, {}).items()}
        return {**scores.get("test", {}), **further}

    def prompt_of(self, example: Example) -> str:
        """The plain prompt; a family may fill in more than the question."""
        return self.config.prompt.replace("{question}", example.text)

    def prompt_texts(self, examples: list[Example], tokenizer: PreTrainedTokenizerBase, suffix: str = "") -> list[str]:
        """Prompts as the model reads them: plain, or in the tokenizer's chat template."""
        if self.config.chat is None:
            return [self.prompt_of(example) + suffix for example in examples]
        said = [self.config.chat.replace("{question}", example.text) + suffix for example in examples]
        return [
            str(
                tokenizer.apply_chat_template(
                    [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
                )
            )
            for text in said
        ]

    def calibration_texts(self, examples: list[Example]) -> list[str]:
        """Prompt and response, as trained on (CorDA's IPA reads the fine-tuning data)."""
        return [self.prompt_of(example) + (example.target or "") for example in examples]

    def encode(self, examples: list[Example], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        """Token ids of prompt, response and end token, cut at max_length; labels are -100 where nothing is learned."""
        from ..evaluation._likelihood import scored_row

        everything = self.config.loss_on == "all"
        # the first token has nothing before it to be predicted from
        return [scored_row(t.ids, 1 if everything else t.start, len(t.ids)) for t in self.tokens(examples, tokenizer)]

    def reference_rows(self, examples: list[Example], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        """Rows for scoring: labels on the reference response alone, without the end token."""
        from ..evaluation._likelihood import scored_row

        tokens = self.tokens(examples, tokenizer, self.config.test_suffix)
        return [scored_row(t.ids, t.start, t.end) for t in tokens]

    def prompts(self, examples: list[Example], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
        """Token ids of the prompts that generation goes on from."""
        return self._tokenised(self.prompt_texts(examples, tokenizer, self.config.test_suffix), tokenizer)

    def continued(
        self, examples: list[Example], continuations: list[list[str]], tokenizer: PreTrainedTokenizerBase
    ) -> list[dict[str, Any]]:
        """Rows for scoring every continuation of every example, in order: labels on the continuation alone."""
        from ..evaluation._likelihood import scored_row

        prompts = self.prompt_texts(examples, tokenizer, self.config.test_suffix)
        alone = self._tokenised(prompts, tokenizer)
        texts = [p + text for p, options in zip(prompts, continuations, strict=True) for text in options]
        starts = [ids for ids, options in zip(alone, continuations, strict=True) for _ in options]
        whole = self._tokenised(texts, tokenizer)
        return [scored_row(ids, _common(prompt, ids), len(ids)) for prompt, ids in zip(starts, whole, strict=True)]

    def tokens(self, examples: list[Example], tokenizer: PreTrainedTokenizerBase, suffix: str = "") -> list[Tokens]:
        """Examples as tokens; those cut at max_length are counted in ``truncated``.

        Prompt and response are tokenised together, as one text; where a token spans both, it counts as response.
        """
        if tokenizer.eos_token_id is None:
            raise DataError(f"task {self.config.name} needs a tokenizer with an end token, to learn where answers end")
        prompts = self.prompt_texts(examples, tokenizer, suffix)
        alone = self._tokenised(prompts, tokenizer)
        whole = self._tokenised([p + (e.target or "") for p, e in zip(prompts, examples, strict=True)], tokenizer)
        limit, result = self.config.max_length, []
        for example, prompt, ids in zip(examples, alone, whole, strict=True):
            start = _common(prompt, ids)
            if start >= min(limit, len(ids)):
                raise DataError(
                    f"task {self.config.name}, example {example.id}: task.max_length={limit} leaves no room for the "
                    f"response after a prompt of {len(prompt)} tokens; use task.max_length={len(ids) + 1} or more"
                )
            if len(ids) + 1 > limit:
                self._cut.add(f"{example.task or ''}/{example.id}")
            result.append(Tokens([*ids, tokenizer.eos_token_id][:limit], start, min(len(ids), limit)))
        return result

    def predict(self, logits: Any) -> list[Any]:
        raise TypeError(f"task {self.config.name} is answered by generated text, not by classes")

    def score(self, predictions: list[Any], references: list[Any]) -> dict[str, float]:
        right = [self.matches(p, accepted) for p, accepted in zip(predictions, references, strict=True)]
        return {EXACT_MATCH: sum(right) / len(right)}

    def _tokenised(self, texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
        """Token ids with one start token (the tokenizer's own, or the chat template's), if any, and no end token."""
        plain = self.config.chat is None
        rows: list[list[int]] = []
        for start in range(0, len(texts), CHUNK):
            rows += tokenizer(texts[start : start + CHUNK], add_special_tokens=plain, verbose=False)["input_ids"]
        return [ids[:-1] if plain and ids and ids[-1] == tokenizer.eos_token_id else ids for ids in rows]


def _common(first: list[int], second: list[int]) -> int:
    """Length of the common beginning."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
