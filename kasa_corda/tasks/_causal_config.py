"""The keys of every task answered by a language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from omegaconf import MISSING

from ..config.schema import TaskConfig, option
from ..evaluation.generation import LIKELIHOOD


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
    cut: str = option(
        "response",
        "what gives way where both are longer than max_length: the end of the response, or the middle of the prompt",
        choices=("response", "prompt"),
        later=True,
    )
    max_truncated: float = option(
        0.05,
        "refuse to train if more than this share of the training examples lose a part of their response to max_length",
        at_least=0,
        at_most=1,
        later=True,
    )
    few_shot: int = option(
        0,
        "worked training examples before every prompt in evaluation, the same for all (fixed draw, none held out)",
        at_least=0,
        later=True,
    )
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
        {},
        "original file (or list of files) of each split: .jsonl or .txt (JSON lines), .json (a list), .csv; also .gz",
    )
    package: Optional[str] = option(
        None, "pinned Python package that carries the files (see kasa_corda/models/packages.py)", later=True
    )
    generated: Optional[str] = option(None, "generator of the examples (a miniature); no file is read", later=True)
    hub_id: Optional[str] = option(MISSING, "hub data set, or a local folder with that data set's layout")
    hub_config: Optional[str] = option(None, "its configuration")
    hub_revision: Optional[str] = option(None, "hub branch, tag or commit; null is the default branch")
    splits: dict[str, str] = option({}, "published name of each split: train, test or both")
    train_percent: Optional[int] = option(
        None,
        "without a local training file: share of the test file, by hash of the text, that becomes the training set",
        above=0,
        below=100,
    )
