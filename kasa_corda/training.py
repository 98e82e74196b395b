"""The training loop, on accelerate: steps, evaluations, checkpoints, resume."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

import torch

from .batches import IGNORED, Collator, epoch_batches, loss_weight, split_batch
from .checkpoint import CheckpointFolder, Tensors, optimizer_tensors, restore_optimizer
from .config import TrainerConfig
from .errors import DataError
from .fitted import FitProgress, Moment, Window
from .interrupt import Interrupted, StopRequest
from .memory import RandomState, give_back, ran_out_of_memory, too_large
from .methods.base import head_parameters
from .nonfinite import IN_A_ROW, OVERFLOW, NonFinite, Skipped, diverged, finite, gradient_norm, spoil, step_unless
from .packing import packing_collator

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

    from .methods import Method
    from .progress import Progress

Event = dict[str, Any]


def steps_per_epoch(examples: int, batch_size: int) -> int:
    return math.ceil(examples / batch_size)


def total_steps(config: TrainerConfig, examples: int) -> int:
    """Optimizer steps of the whole run."""
    if config.max_steps:
        return config.max_steps
    steps = max(1, math.ceil(config.epochs * steps_per_epoch(examples, config.batch_size)))
    return min(steps, config.steps_cap or steps)


def warmup_steps(config: TrainerConfig, total: int) -> int:
    return int(config.warmup) if config.warmup >= 1 else math.ceil(config.warmup * total)


class Trainer:
    """Fits one model. ``fit`` returns the progress and leaves the model in its last state; ``best`` holds the best."""

    def __init__(
        self,
        config: TrainerConfig,
        method: Method,
        model: nn.Module,
        encoded: list[dict[str, Any]],
        tokenizer: Any,
        *,
        accelerator: Accelerator,
        head: list[str],
        seed: int,
        metric: str,
        evaluate: Callable[[], dict[str, float]],
        log: Callable[[Event], None],
        checkpoints: CheckpointFolder,
        progress: Progress,
        inspect: Callable[[Skipped], None] = lambda skipped: None,
    ) -> None:
        """``inspect`` is told of every step that is not applied, on the main process."""
        self.config, self.method, self.encoded, self.accelerator = config, method, encoded, accelerator
        self.seed, self.metric, self.evaluate, self.log, self.screen = seed, metric, evaluate, log, progress
        self.checkpoints, self.inspect = checkpoints, inspect
        self.lengths = [len(example["input_ids"]) for example in encoded]
        self.collate = packing_collator(model, tokenizer, max(self.lengths)) if config.packing else Collator(tokenizer)
        self.weights = [loss_weight(example) for example in encoded]
        if not any(self.weights):
            raise DataError(
                f"none of the {len(encoded):,} training examples has a token to learn (all labels are {IGNORED});"
                " where prompts fill task.max_length, raise it"
            )
        self.per_epoch = steps_per_epoch(len(encoded), config.batch_size)
        self.total = total_steps(config, len(encoded))
        self.order: dict[int, list[list[int]]] = {}
        """the batches of the epoch at hand"""
        self.best: Tensors = {}
        self.fitted = FitProgress()
        self.nonfinite = NonFinite(accelerator)
        self.window = Window(accelerator.device, 0)
        self.applying = False
        """whether the step at hand may have changed what it can't undo"""
        if config.gradient_checkpointing:
            cast(Any, model).gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.bare = model
        self.optimizer = self._optimizer(head)
        self.scheduler = self._scheduler()
        if config.compile:
            model.compile()
        self.model, self.optimizer = accelerator.prepare(model, self.optimizer)

    def fit(self, *, resume: bool) -> FitProgress:
        """Train to the end, evaluating on the way. Interrupted after a signal, with a checkpoint written."""
        if resume and self.checkpoints.exists():
            with self.checkpoints.fitting():
                self._restore()
        with (
            StopRequest(self.screen.say) as stop,
            self.screen.phase("train", self.total, "step", self.fitted.step) as phase,
        ):
            self.model.train()
            shown: dict[str, str] = {}
            while self.fitted.step < self.total and not self._out_of_patience():
                began = time.perf_counter()
                self.window.add(*self._fitting_step(self._batch(self.fitted.step)))
                self.fitted.step += 1
                step = self.fitted.step
                due = self._evaluation_due(step)
                if due or step % self.config.log_every == 0:  # not where it was stopped: it is to end the same
                    shown = self._record(self.window)
                    self.window = Window(self.accelerator.device, self._left_out())
                self.fitted.seconds += time.perf_counter() - began
                phase.advance(1, **shown)
                if due:
                    self._evaluate()
                if due or stop.requested or step % (self.config.checkpoint_every or self.total) == 0:
                    self._save()
                if stop.requested and step < self.total:
                    raise Interrupted(f"stopped after step {step} of {self.total}")
        return self.fitted

    def _batch(self, step: int) -> list[int]:
        epoch, index = divmod(step, self.per_epoch)
        if epoch not in self.order:
            group = self.config.group_by_length
            self.order = {epoch: epoch_batches(self.lengths, self.config.batch_size, self.seed, epoch, group=group)}
        return self.order[epoch][index]

    def _fitting_step(self, batch: list[int]) -> tuple[torch.Tensor, torch.Tensor, int, int]:
        """One optimizer step; where its micro-batches don't fit into memory, again with half their size, kept so.

        Nothing of the failed attempt is left: gradients are dropped and the random state is that of before, so that the
        step is the one of a run with that accumulation. With dropout that is another random stream than with larger
        micro-batches. Several processes can't agree on it in the middle of a step: there the run fails and whoever
        started it tries again (``queue.attempt``); so it does where the optimizer had begun to change the weights.
        """
        while True:
            before = RandomState.of(self.accelerator.device)
            self.applying = False
            try:
                return self._step(batch)
            except (RuntimeError, MemoryError) as error:
                if not ran_out_of_memory(error) or self.applying or self.accelerator.num_processes > 1:
                    raise
            # the exception is gone here, and with it the tensors of the frames it passed
            self.optimizer.zero_grad(set_to_none=True)
            give_back()
            before.restore(self.accelerator.device)
            self._halve(batch)

    def _halve(self, batch: list[int]) -> None:
        """Twice as many micro-batches from the step at hand; KasaCordaError if they hold one example already."""
        now = self.fitted.accumulation(self.config)
        if now >= len(batch):
            raise too_large(self.config, now, max(self.lengths[i] for i in batch))
        smaller = min(2 * now, self.config.batch_size)
        self.fitted.smaller.append([self.fitted.step, smaller])
        step = self.fitted.step + 1
        self.screen.say(f"out of memory in step {step}; going on with trainer.accumulation={smaller}, it was {now}")

    def _step(self, batch: list[int]) -> tuple[torch.Tensor, torch.Tensor, int, int]:
        """One optimizer step. Returns this process's task loss, auxiliary loss, examples and tokens; losses that are
        not finite, or whose step was left out, count as 0."""
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        accumulation = self.fitted.accumulation(self.config)
        self.method.before_step(self.bare, self.fitted.step)
        parts = split_batch(batch, accumulation * processes)
        supervised = sum(self.weights[i] for i in batch)
        mine = parts[rank * accumulation : (rank + 1) * accumulation]
        task_loss = torch.zeros((), device=self.accelerator.device)
        for index, part in enumerate(mine):
            inputs = self._inputs(part or batch[:1])
            final = index == len(mine) - 1
            with nullcontext() if final else self.accelerator.no_sync(self.model):
                weight = sum(self.weights[i] for i in part)
                loss = self._loss(inputs, weight / supervised if weight else 0.0)
                task_loss += loss.detach()
                self.accelerator.backward(loss * processes)
        auxiliary = self.method.add_auxiliary_gradient(self.bare, self._loss_scale())
        auxiliary = torch.zeros_like(task_loss) if auxiliary is None else auxiliary
        self.applying = True
        skip = self._marked(batch, task_loss, auxiliary)
        step_unless(skip, self.optimizer, self.accelerator.scaler)
        self.scheduler.step()
        self.method.after_step(self.bare, self.fitted.step)
        self.optimizer.zero_grad(set_to_none=True)
        return (
            task_loss.masked_fill(skip > 0, 0.0),
            auxiliary.masked_fill(skip > 0, 0.0),
            len(batch),
            sum(self.lengths[i] for i in batch),
        )

    def _marked(self, batch: list[int], task: torch.Tensor, auxiliary: torch.Tensor) -> torch.Tensor:
        """Clip the gradient and look whether it and the loss are finite. 1. if the step is to be left out, else 0."""
        wrong = self.nonfinite.in_loss(task + auxiliary)
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self.accelerator.scaler is not None:
            spoil(trained, wrong)
        if self.config.clip is not None:
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip)
        else:
            norm = gradient_norm(trained, task.device)
        loss = task + auxiliary / self.accelerator.num_processes
        return self.nonfinite.marked(self.fitted.step + 1, batch, loss, wrong, norm)

    def _read_marks(self) -> None:
        """Take note of the steps that were left out since the last call; Diverged if the run can't go on."""
        done = self.fitted.step
        before = done - len(self.nonfinite.steps)
        for skipped in self.nonfinite.read():
            if self.accelerator.is_main_process:
                self.inspect(skipped)
            if skipped.what == OVERFLOW:
                self.fitted.overflows += 1
                continue
            self.fitted.skipped += 1
            self.fitted.in_a_row = self.fitted.in_a_row + 1 if skipped.step == before + 1 else 1
            before = skipped.step
            became = f"the {skipped.what} became {skipped.loss if skipped.what == 'loss' else 'nan or infinite'}"
            if self.config.nonfinite == "stop":
                raise diverged(skipped.step, became, self.config.learning_rate)
            if self.fitted.in_a_row >= min(IN_A_ROW, self.total):
                became += f", like those of the {self.fitted.in_a_row - 1} steps before"
                raise diverged(skipped.step, became, self.config.learning_rate)
        if before < done:
            self.fitted.in_a_row = 0

    def _left_out(self) -> int:
        return self.fitted.skipped + self.fitted.overflows

    def _loss(self, inputs: dict[str, Any], share: float) -> torch.Tensor:
        """``share`` x the mean loss of one part; one without labels has no mean, but needs a gradient on every rank."""
        outputs = self.model(**inputs)
        return outputs.loss.float() * share if share else outputs.logits.float().sum() * 0.0

    def _loss_scale(self) -> float | torch.Tensor:
        """The factor of all gradients before the optimizer takes it out again (fp16); it stays on the device."""
        scaler = self.accelerator.scaler
        return 1.0 if scaler is None else scaler.scale(torch.ones((), device=self.accelerator.device))

    def _inputs(self, indices: list[int]) -> dict[str, Any]:
        batch = self.collate([self.encoded[i] for i in indices])
        inputs: dict[str, Any] = {n: t.to(self.accelerator.device, non_blocking=True) for n, t in batch.items()}
        return inputs | ({"use_cache": False} if self.config.packing else {})

    def _record(self, window: Window) -> dict[str, str]:
        """Write the mean losses of the steps applied since the last record; Diverged if the run can't go on."""
        self._read_marks()
        self.fitted.examples += window.examples
        self.fitted.tokens += window.tokens
        steps = window.steps - (self._left_out() - window.left_out)
        if not steps:
            return {"skipped": str(self._left_out())}
        task, auxiliary = (self.accelerator.reduce(value, "sum").item() for value in (window.task, window.auxiliary))
        task, auxiliary = task / steps, auxiliary / steps / self.accelerator.num_processes
        self.fitted.loss = {"task": task, "auxiliary": auxiliary}
        step = self.fitted.step
        self.log(
            {
                "event": "train",
                "step": step,
                "epoch": step / self.per_epoch,
                "loss": task + auxiliary,
                "task_loss": task,
                "auxiliary_loss": auxiliary,
                "learning_rate": self.scheduler.get_last_lr()[0],
                "examples_per_second": self.fitted.examples / max(self.fitted.seconds, 1e-9),
            }
        )
        return {"loss": f"{task:.4f}"} | ({"aux": f"{auxiliary:.4f}"} if auxiliary else {})

    def _evaluation_due(self, step: int) -> bool:
        every = self.config.evaluate_every or self.per_epoch
        return step % every == 0 or step == self.total

    def _evaluate(self) -> None:
        if not finite(self.method.trained_state(self.bare).values()):
            raise diverged(self.fitted.step, "the weights became nan or infinite", self.config.learning_rate)
        scores = self.evaluate()
        self.model.train()
        now = Moment(self.fitted.step, self.fitted.step / self.per_epoch, scores)
        self.log({"event": "evaluate", "split": "select", **asdict(now)})
        self.screen.say(
            f"epoch {now.epoch:.2f}  step {now.step}/{self.total}  "
            + "  ".join(f"{name} {value:.4f}" for name, value in scores.items())
        )
        best = self.fitted.best
        if best is None or scores[self.metric] > best.select[self.metric]:
            self.fitted.best, self.fitted.worse = now, 0
            self.best = {name: t.clone() for name, t in self.method.trained_state(self.bare).items()}
        else:
            self.fitted.worse += 1
        self.fitted.last = now

    def _out_of_patience(self) -> bool:
        return self.config.patience is not None and self.fitted.worse >= self.config.patience

    def _save(self) -> None:
        self._read_marks()
        self.fitted.window = self.window.stored(self.accelerator)
        groups = {
            "last": self.method.trained_state(self.bare),
            "best": self.best,
            "optimizer": optimizer_tensors(self.optimizer),
        }
        self.checkpoints.save(
            {name: group for name, group in groups.items() if group},
            asdict(self.fitted),
            self.accelerator.process_index,
            self.accelerator.wait_for_everyone,
        )

    def _restore(self) -> None:
        groups, stored = self.checkpoints.load(self.accelerator.process_index)
        self.method.restore(self.bare, groups["last"])
        device = self.accelerator.device
        self.best = {name: tensor.to(device) for name, tensor in groups.get("best", {}).items()}
        restore_optimizer(self.optimizer, groups["optimizer"])
        self.fitted = FitProgress.read(stored)
        self.window = Window(device, self._left_out())
        self.window.restore(self.fitted.window, self.accelerator)
        for _ in range(self.fitted.step):
            self.scheduler.step()
        self.screen.say(f"going on after step {self.fitted.step} of {self.total}")

    def _optimizer(self, head: list[str]) -> torch.optim.Optimizer:
        c = self.config
        head_names = set(head_parameters(self.bare, head)) if c.head_learning_rate else set()
        trainable = {n: p for n, p in self.bare.named_parameters() if p.requires_grad}
        groups = self.method.parameter_groups(self.bare, c.learning_rate)
        if groups is None:
            groups = [{"params": list(trainable.values()), "lr": c.learning_rate}]
        heads = {id(trainable[n]) for n in head_names}
        groups = [{**g, "params": [p for p in g["params"] if id(p) not in heads]} for g in groups]
        if head_names:
            groups.append({"params": [trainable[n] for n in trainable if n in head_names], "lr": c.head_learning_rate})
        groups = [g for g in groups if g["params"]]
        adamw: dict[str, Any] = {
            "lr": c.learning_rate,
            "betas": (c.beta1, c.beta2),
            "eps": c.epsilon,
            "weight_decay": c.weight_decay,
        }
        own = self.method.optimizer(self.bare, groups, **adamw)
        return own or torch.optim.AdamW(groups, **adamw, fused=self.accelerator.device.type == "cuda" or None)

    def _scheduler(self) -> torch.optim.lr_scheduler.LambdaLR:
        from transformers import get_scheduler

        name = {"constant": "constant_with_warmup"}.get(self.config.schedule, self.config.schedule)
        warmup = warmup_steps(self.config, self.total)
        return get_scheduler(name, self.optimizer, num_warmup_steps=warmup, num_training_steps=self.total)
