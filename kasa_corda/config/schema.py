"""The dataclass behind every config group. Every field carries its meaning, unit and default.

Methods and task families extend ``MethodConfig`` and ``TaskConfig`` beside their code; the reference
page ``docs/config.md`` is generated from these classes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Optional

from omegaconf import MISSING


def option(default: Any, help: str, **limits: Any) -> Any:
    """A dataclass field with its explanation and limits; mutable defaults are copied per instance.

    Limits, checked by ``config.validate``: ``choices`` (a tuple), ``above`` and ``below`` (exclusive),
    ``at_least`` and ``at_most`` (inclusive). ``later=True``: the key came after runs had been made; at its default it
    is left out of the run id, so that these runs keep their names.
    """
    metadata = {"help": help, **limits}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class FieldHelp:
    """One key of a config group, as the reference page shows it."""

    name: str
    default: Any
    help: str
    limits: dict[str, Any]


def field_help(cls: type) -> list[FieldHelp]:
    """Every field of a config dataclass, in order."""
    rows = []
    for f in dataclasses.fields(cls):
        default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        limits = {key: value for key, value in f.metadata.items() if key != "help"}
        rows.append(FieldHelp(f.name, default, f.metadata.get("help", ""), limits))
    return rows


@dataclass
class ModelConfig:
    """A pretrained model: where its weights come from and the shape of its layers."""

    name: str = option(MISSING, "name shown in tables and used in the run directory")
    architecture: str = option(MISSING, "model family: bert, roberta, deberta-v2, gpt2, llama, mistral, gemma or qwen2")
    kind: str = option(MISSING, "encoder or decoder", choices=("encoder", "decoder"))
    hub_id: Optional[str] = option(None, "repository on the Hugging Face hub")
    revision: Optional[str] = option(None, "hub branch, tag or commit; null is the default branch")
    package: Optional[str] = option(
        None, "pinned Python package that carries the weights (see kasa_corda/models/packages.py)"
    )
    path: Optional[str] = option(None, "local folder with config.json and weights; tried first")
    approximation: Optional[str] = option(None, "why these weights are not the released ones; shown in every table")
    gated: bool = option(False, "true if the hub asks for a licence to be accepted first")
    layers: int = option(MISSING, "number of transformer blocks", at_least=1)
    hidden_size: int = option(MISSING, "width of the residual stream")
    intermediate_size: int = option(MISSING, "width of the feed-forward layer")
    heads: int = option(MISSING, "attention heads")
    kv_heads: Optional[int] = option(None, "key/value heads (grouped-query attention); null is the same as heads")
    head_dim: Optional[int] = option(None, "width of one head; null is hidden_size / heads")
    vocab_size: int = option(MISSING, "size of the vocabulary")
    tied_embeddings: Optional[bool] = option(
        None, "whether a language model's head shares the input embeddings; null is what its family usually does"
    )
    max_positions: int = option(512, "longest input in tokens")
    dtype: str = option("float32", "dtype of the frozen weights", choices=("float32", "bfloat16", "float16"))
    attention: str = option("sdpa", "attention kernel", choices=("sdpa", "eager", "flash_attention_2"))
    pooler: str = option(
        "frozen", "DeBERTa's fresh pooler layer: frozen is how the KaSA authors ran it", choices=("frozen", "trained")
    )
    trust_remote_code: bool = option(
        False, "run model code from the hub; needs revision=COMMIT (40 hex digits): the code that you have read"
    )
    allow_pickle: bool = option(
        False,
        "read pytorch_model*.bin of model.path where it has no safetensors, by torch's reader for weights alone",
        later=True,
    )


@dataclass
class MethodConfig:
    """What every fine-tuning method has. Methods add their own options beside their code."""

    name: str = option(MISSING, "registered name of the method")
    label: Optional[str] = option(None, "name shown in tables; null is the registered name")
    learning_rate: float = option(1e-3, "peak learning rate used where trainer.learning_rate is not given", above=0)
    target_modules: Any = option(
        "qv", "layers to adapt: qv, five (q k v up down), all_linear, or a list of layer names"
    )
    budget: Any = option(
        None,
        "trainable parameters without the task head, e.g. 300000 or 0.3M: chooses the rank (or width) that comes"
        " nearest; null leaves it as it is",
    )


@dataclass
class LowRankConfig(MethodConfig):
    """Options of every LoRA-shaped method: dW = scale * B A, A (rank, in), B (out, rank)."""

    rank: int = option(8, "rank r of the update", at_least=1)
    alpha: float = option(16.0, "numerator of the scale alpha / r", above=0)
    dropout: float = option(0.0, "dropout on the adapter's input", at_least=0, below=1)


@dataclass
class TaskConfig:
    """A benchmark as data. Families add their own fields beside their code."""

    name: str = option(MISSING, "name shown in tables and used in the run directory, e.g. glue/sst2")
    family: str = option(MISSING, "task family that loads and scores it")
    version: int = option(1, "raised when prompt, split or metric change; part of the run id")
    kind: str = option("classification", "what is predicted", choices=("classification", "regression", "generation"))
    metric: str = option(MISSING, "the metric that selects epochs and fills the tables")
    max_length: int = option(128, "longest input in tokens; longer inputs are cut and counted", at_least=4)
    train_examples: Optional[int] = option(
        None, "use only this many training examples (fixed draw); null is all", at_least=1
    )
    held_out: int = option(1000, "at most this many training examples are held out for selection=held_out", at_least=1)
    sizes: dict[str, int] = option({}, "number of examples per split as published; a different count is reported")


@dataclass
class EvaluatorConfig:
    """How a trained model is evaluated."""

    name: str = option(MISSING, "registered name of the evaluator")
    batch_size: int = option(64, "examples per forward pass", at_least=1)
    save_predictions: bool = option(True, "write predictions/<split>.jsonl; paired statistics need them")
    forgetting: Any = option(
        None,
        "tasks that the base model is also scored on, before training: they show what the run forgets (names of"
        " configs/task, such as nq_open,webqs)",
        later=True,
    )
    test: bool = option(
        True,
        "false: no test set is evaluated, nor what the run forgets, as when a learning rate is searched",
        later=True,
    )


@dataclass
class TrainerConfig:
    """The training loop. Batch size counts examples per optimizer step, whatever the number of devices."""

    learning_rate: float = option(
        MISSING,
        "peak learning rate of the adapter; the method's own by default; in a sweep, grid is the method's own grid, and"
        " search finds the best rate on held-out data",
        above=0,
    )
    head_learning_rate: Optional[float] = option(
        None, "peak learning rate of the task head; null is learning_rate", above=0
    )
    epochs: float = option(3.0, "passes over the training set (ignored if max_steps is given)", above=0)
    max_steps: Optional[int] = option(None, "stop after this many optimizer steps", at_least=1)
    steps_cap: Optional[int] = option(
        None, "never more optimizer steps than this, however many the epochs would be; null is no cap", at_least=1
    )
    batch_size: int = option(32, "examples per optimizer step over all devices", at_least=1)
    accumulation: int = option(1, "split each batch into this many forward passes; the result is the same", at_least=1)
    warmup: float = option(0.06, "warm-up: below 1 a share of all steps, from 1 on a number of steps", at_least=0)
    schedule: str = option("linear", "learning rate after warm-up", choices=("linear", "cosine", "constant"))
    weight_decay: float = option(0.0, "AdamW weight decay on every trained parameter", at_least=0)
    beta1: float = option(0.9, "AdamW beta1", at_least=0, below=1)
    beta2: float = option(0.999, "AdamW beta2", at_least=0, below=1)
    epsilon: float = option(1e-8, "AdamW epsilon", above=0)
    clip: Optional[float] = option(None, "clip the global gradient norm at this value; null does not clip", above=0)
    precision: str = option(
        "fp32", "arithmetic of the forward pass (mixed precision)", choices=("fp32", "bf16", "fp16")
    )
    gradient_checkpointing: bool = option(False, "recompute activations in the backward pass to save memory")
    compile: bool = option(False, "torch.compile the model")
    group_by_length: bool = option(True, "batches of similar length; order still drawn from the seed")
    packing: bool = option(
        False,
        "several examples in one row, kept apart by position and attention, instead of padding; the loss is the same",
        later=True,
    )
    evaluate_every: Optional[int] = option(None, "evaluate every n optimizer steps; null is once per epoch", at_least=1)
    patience: Optional[int] = option(
        None, "stop after this many evaluations without improvement; null never stops early", at_least=1
    )
    checkpoint_every: Optional[int] = option(
        None, "checkpoint every n optimizer steps; null is at every evaluation", at_least=1
    )
    keep_weights: bool = option(
        True, "store what was trained (adapter/); runs that only choose a learning rate never do", later=True
    )
    nonfinite: str = option(
        "stop",
        "NaN or infinity in loss or gradient: stop ends the run as diverged; skip leaves the step out and counts it",
        choices=("stop", "skip"),
        later=True,
    )
    log_every: int = option(10, "write loss and speed to metrics.jsonl every n optimizer steps", at_least=1)


@dataclass
class ScaleConfig:
    """pocket (small real models, minutes on a laptop) or paper (the papers' models and settings)."""

    name: str = option(MISSING, "which scale", choices=("pocket", "paper"))
    devices: int = option(1, "processes, one per GPU (or CPU process); above 1 starts accelerate launch", at_least=1)
    threads: Optional[int] = option(
        None, "CPU threads per process; null shares the cores among parallel cells", at_least=1
    )


@dataclass
class TrackerConfig:
    """Where the curves go beside metrics.jsonl, which is always written."""

    name: str = option("none", "tracker", choices=("none", "wandb", "tensorboard"))
    project: str = option("kasa_corda", "wandb project")
    mode: str = option("offline", "wandb mode", choices=("offline", "online", "disabled"))


@dataclass
class RunConfig:
    """Everything that defines one run."""

    seed: int = option(0, "seed of the adapter, the head and the data order", at_least=0)
    selection: str = option(
        "held_out",
        "held_out: choose the epoch on examples held out from training; paper: best epoch on the evaluation set itself",
        choices=("held_out", "paper"),
    )
    data_dir: Optional[str] = option(None, "folder with local data sets; null reads KASA_CORDA_DATA")
    run_root: str = option("runs", "folder of all run directories")
    dry_run: bool = option(False, "only say what would run")
    force: bool = option(False, "run again even if this run is finished")
    deterministic: bool = option(
        False,
        "the same bits again on one GPU: torch's deterministic algorithms only, which are slower; a CPU needs none of"
        " it",
        later=True,
    )
    resume: bool = option(True, "go on from the last checkpoint of an interrupted run")
    model: ModelConfig = field(default_factory=ModelConfig)
    calibration: Any = None
    method: MethodConfig = field(default_factory=MethodConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    evaluator: EvaluatorConfig = field(default_factory=EvaluatorConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)


def register(store: Any) -> None:
    """Put every schema into Hydra's ConfigStore (passed in, so that this package never imports Hydra)."""
    from ..calibration.settings import CalibrationConfig
    from ..evaluation import EVALUATORS
    from ..methods import METHODS
    from ..tasks import TASKS

    store.store(name="schema", node=RunConfig)
    for group, node in (
        ("model", ModelConfig),
        ("calibration", CalibrationConfig),
        ("trainer", TrainerConfig),
        ("scale", ScaleConfig),
        ("tracker", TrackerConfig),
    ):
        store.store(group=f"schema/{group}", name="base", node=node)
    for name, method in METHODS.items():
        store.store(group="schema/method", name=name, node=method.Config)
    for name, family in TASKS.items():
        store.store(group="schema/task", name=name, node=family.Config)
    for name, evaluator in EVALUATORS.items():
        store.store(group="schema/evaluator", name=name, node=evaluator.Config)
