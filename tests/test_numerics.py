"""NaN, infinity, overflow, memory that runs out and collapsed predictions: what a run does, and what it says of it."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training import example, trainer

from kasa_corda.config import run_id
from kasa_corda.config.schema import TrainerConfig
from kasa_corda.errors import Diverged, KasaCordaError
from kasa_corda.evaluation.base import Evaluation
from kasa_corda.fitted import FitProgress
from kasa_corda.launch import launch, prepare, recorded, run_processes
from kasa_corda.memory import ran_out_of_memory
from kasa_corda.nonfinite import NonFinite, Skipped, batch_log, gradient_norm, step_unless
from kasa_corda.queue.causes import cause_of
from kasa_corda.remarks import collapsed, fit_notes
from kasa_corda.store import RunDirectory
from kasa_corda.training import Trainer

EXAMPLES = [example(4, i) for i in range(8)]
OOM = "CUDA out of memory. Tried to allocate 2.00 GiB"


def made(folder: Path, **changes: Any) -> tuple[Trainer, list[dict[str, Any]], list[Skipped]]:
    """A trainer of 8 steps on 2 examples each, what it logs and what it hands over for inspection."""
    events: list[dict[str, Any]] = []
    skipped: list[Skipped] = []
    options = {"batch_size": 2, "max_steps": 8, "evaluate_every": 8, **changes}
    one = trainer(folder, EXAMPLES, events, **options)
    one.inspect = skipped.append
    return one, events, skipped


def wrong_loss(one: Trainer, steps: dict[int, float]) -> None:
    """Multiply the loss at some steps (from 0) by a number such as NaN."""
    loss = one._loss
    one._loss = lambda inputs, share: loss(inputs, share) * steps.get(one.fitted.step, 1.0)  # type: ignore[method-assign]


def wrong_gradient(one: Trainer, steps: dict[int, float]) -> None:
    """Put a number such as infinity into one gradient at some steps, the loss being fine."""
    before = one.method.add_auxiliary_gradient

    def spoiled(model: Any, scale: Any) -> Any:
        value = before(model, scale)
        if one.fitted.step in steps:
            next(p for p in model.parameters() if p.grad is not None).grad.view(-1)[0] = steps[one.fitted.step]
        return value

    one.method.add_auxiliary_gradient = spoiled  # type: ignore[method-assign]


def state(one: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in one.method.trained_state(one.bare).items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


class TestNonFinite:
    @pytest.mark.parametrize("spoil", [wrong_loss, wrong_gradient])
    @pytest.mark.parametrize("number", [math.nan, math.inf])
    def test_stop_ends_the_run_with_the_first_wrong_step_and_hands_over_its_batch(self, tmp_path, spoil, number):
        one, _, skipped = made(tmp_path, log_every=4)
        spoil(one, {1: number, 2: number})
        with pytest.raises(Diverged, match=r"^diverged at step 2: the (loss|gradient) became .*lower trainer.learning"):
            one.fit(resume=False)
        assert [each.step for each in skipped] == [2] and skipped[0].batch == one._batch(1)
        assert all(tensor.isfinite().all() for tensor in state(one).values())

    @pytest.mark.parametrize("clip", [None, 1.0])
    @pytest.mark.parametrize("spoil", [wrong_loss, wrong_gradient])
    def test_skip_applies_nothing_of_the_step_counts_it_and_goes_on(self, tmp_path, spoil, clip):
        one, events, skipped = made(tmp_path, nonfinite="skip", log_every=4, clip=clip)
        states: list[dict[str, torch.Tensor]] = []
        before = one.method.before_step
        one.method.before_step = lambda model, step: (states.append(state(one)), before(model, step))[1]
        spoil(one, {2: math.nan, 5: math.inf})
        fitted = one.fit(resume=False)
        assert [same(a, b) for a, b in zip(states, [*states[1:], state(one)], strict=True)] == [
            i in (2, 5) for i in range(8)
        ]
        assert (fitted.step, fitted.skipped, fitted.overflows) == (8, 2, 0)
        assert [(each.step, each.what) for each in skipped] == [
            (3, spoil.__name__.removeprefix("wrong_")),
            (6, spoil.__name__.removeprefix("wrong_")),
        ]
        assert all(math.isfinite(event["loss"]) for event in events if event["event"] == "train")
        assert fit_notes(one.config, fitted)[0].startswith("2 of 8 optimizer steps were not applied")

    def test_the_mean_loss_is_that_of_the_applied_steps(self, tmp_path):
        plain, events, _ = made(tmp_path / "plain", max_steps=1, evaluate_every=1)
        plain.fit(resume=False)
        one, skipping, _ = made(tmp_path / "skip", nonfinite="skip", log_every=2, max_steps=2, evaluate_every=2)
        wrong_loss(one, {1: math.nan})
        one.fit(resume=False)
        assert skipping[0]["task_loss"] == events[0]["task_loss"]

    def test_without_a_wrong_step_skip_and_stop_are_the_same_bits(self, tmp_path):
        one, _, _ = made(tmp_path / "a", nonfinite="skip")
        other, _, _ = made(tmp_path / "b")
        one.fit(resume=False)
        other.fit(resume=False)
        assert same(state(one), state(other))

    def test_a_run_without_any_usable_step_is_not_finished_even_with_skip(self, tmp_path):
        one, _, skipped = made(tmp_path, nonfinite="skip")
        wrong_loss(one, dict.fromkeys(range(8), math.nan))
        with pytest.raises(Diverged, match="diverged at step 8: the loss became nan, like those of the 7 steps before"):
            one.fit(resume=False)
        assert len(skipped) == 8

    def test_weights_that_are_no_longer_finite_are_not_evaluated(self, tmp_path):
        one, _, _ = made(tmp_path, max_steps=1, evaluate_every=1)

        def overflow(model: Any, step: int) -> None:
            with torch.no_grad():
                next(p for p in model.parameters() if p.requires_grad).view(-1)[0] = math.inf

        one.method.after_step = overflow  # type: ignore[method-assign]
        with pytest.raises(Diverged, match="diverged at step 1: the weights became nan or infinite"):
            one.fit(resume=False)

    def test_no_checkpoint_is_written_after_a_wrong_step(self, tmp_path):
        one, _, _ = made(tmp_path, checkpoint_every=2, log_every=8)
        wrong_loss(one, {3: math.nan})
        with pytest.raises(Diverged, match="diverged at step 4"):
            one.fit(resume=False)
        assert json.loads((tmp_path / "checkpoint" / "progress.json").read_text())["step"] == 2

    def test_a_resumed_run_goes_on_counting(self, tmp_path):
        one, _, _ = made(tmp_path, nonfinite="skip")
        wrong_loss(one, {0: math.nan})
        for step in range(3):
            one._step(one._batch(step))
            one.fitted.step += 1
        one._save()
        again, _, _ = made(tmp_path, nonfinite="skip")
        wrong_loss(again, {6: math.nan})
        assert again.fit(resume=True).skipped == 2

    def test_the_inspected_batches_are_lines_of_json_with_the_ids_of_their_examples(self, tmp_path):
        note = batch_log(tmp_path / "run" / "nonfinite.jsonl", ["a", "b", "c"])
        note(Skipped(7, "loss", math.nan, [2, 0]))
        note(Skipped(9, "gradient", 0.5, [1]))
        first, second = (json.loads(line) for line in (tmp_path / "run" / "nonfinite.jsonl").read_text().splitlines())
        assert first == {"step": 7, "what": "loss", "loss": "nan", "examples": ["c", "a"]}
        assert second["loss"] == 0.5 and second["examples"] == ["b"]


class Scaler:
    def __init__(self, scale: float) -> None:
        self.factor = scale

    def scale(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor * self.factor


@pytest.mark.parametrize(
    ("scale", "loss", "norm", "kind"),
    [
        (None, 1.0, math.inf, "gradient"),
        (65536.0, 1.0, math.inf, "overflow"),
        (1.0, 1.0, math.inf, "gradient"),
        (65536.0, math.nan, math.inf, "loss"),
        (65536.0, 1.0, 2.0, None),
    ],
)
def test_an_overflow_of_fp16_is_the_scalers_until_there_is_nothing_left_to_scale_down(scale, loss, norm, kind):
    class One:
        num_processes = 1
        scaler = None if scale is None else Scaler(scale)

        def reduce(self, tensor: torch.Tensor, how: str) -> torch.Tensor:
            return tensor

    watch: Any = NonFinite(One())  # type: ignore[arg-type]
    value = torch.tensor(loss)
    skip = watch.marked(3, [0], value, watch.in_loss(value), torch.tensor(norm))
    assert skip.item() == (kind is not None)
    assert [each.what for each in watch.read()] == ([] if kind is None else [kind])
    assert watch.read() == []


def test_a_fused_optimizer_leaves_a_step_out_by_a_mark_on_its_device():
    weight = torch.nn.Parameter(torch.ones(3))
    weight.grad = torch.tensor([math.nan, 1.0, 1.0])
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)

    class Wrapped:
        def __init__(self) -> None:
            self.optimizer = optimizer
            self.step = optimizer.step

    def never_read(self: torch.Tensor) -> float:
        raise AssertionError("the host waited for the device")

    class Silent(torch.Tensor):
        item = never_read

    step_unless(torch.tensor(1.0).as_subclass(Silent), Wrapped(), None)
    assert torch.equal(weight, torch.ones(3))
    assert optimizer.state[weight]["step"] == 0 and not optimizer.state[weight]["exp_avg"].any()
    weight.grad = torch.ones(3)
    step_unless(torch.tensor(0.0), Wrapped(), None)
    assert (weight < 1).all() and not hasattr(optimizer, "found_inf")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_the_norm_sees_one_wrong_number_among_many_parameters(number):
    parameters = [torch.nn.Parameter(torch.zeros(n)) for n in (5, 1, 7)]
    for parameter in parameters[:2]:
        parameter.grad = torch.ones_like(parameter)
    assert gradient_norm(parameters, torch.device("cpu")) == pytest.approx(math.sqrt(6))
    parameters[0].grad[3] = number
    assert not gradient_norm(parameters, torch.device("cpu")).isfinite()


class TestStatus:
    def test_a_diverged_run_is_failed_and_marked(self, tmp_path):
        directory = RunDirectory(tmp_path)
        with pytest.raises(Diverged), recorded(directory):
            raise Diverged("diverged at step 3: the loss became nan")
        assert directory.state() == "failed" and directory.status()["diverged"] is True
        assert directory.status()["error"].startswith("diverged at step 3")

    def test_another_failure_is_not_marked(self, tmp_path):
        with pytest.raises(KasaCordaError), recorded(RunDirectory(tmp_path)):
            raise KasaCordaError("no such file")
        assert "diverged" not in RunDirectory(tmp_path).status()

    def test_what_worker_processes_say_is_recognised(self, tmp_path, monkeypatch):
        (tmp_path / "error.txt").write_text("diverged at step 3: the loss became nan")
        monkeypatch.setattr("kasa_corda.launch.waited_for", lambda arguments, environment: 1)
        from conftest import compose

        from kasa_corda.config.validate import typed

        with pytest.raises(Diverged):
            run_processes(typed(compose("model=minilm", "task=reviews")), RunDirectory(tmp_path), [])


class TestMemory:
    def limited(self, one: Trainer, rows: int, error: type[Exception] = RuntimeError) -> list[int]:
        """Let the model fail on more than so many rows, after its dropout has drawn; returns the sizes that it saw."""
        loss, seen = one._loss, []

        def limited(inputs: dict[str, Any], share: float) -> torch.Tensor:
            seen.append(len(inputs["input_ids"]))
            found = loss(inputs, share)
            if len(inputs["input_ids"]) > rows:
                torch.rand(3)
                raise error(OOM)
            return found

        one._loss = limited  # type: ignore[method-assign]
        return seen

    def test_micro_batches_are_halved_and_the_run_is_that_of_the_larger_accumulation(self, tmp_path):
        one, _, _ = made(tmp_path / "halved", batch_size=4, max_steps=4, evaluate_every=4)
        seen = self.limited(one, 1)
        fitted = one.fit(resume=False)
        assert seen == [4, 2, *[1] * 16] and fitted.smaller == [[0, 2], [0, 4]] and fitted.accumulation(one.config) == 4
        other, _, _ = made(tmp_path / "asked", batch_size=4, max_steps=4, evaluate_every=4, accumulation=4)
        other.fit(resume=False)
        assert same(state(one), state(other))
        assert fit_notes(one.config, fitted) == [
            "trainer.accumulation=2 from step 1 on: 1 did not fit into memory",
            "trainer.accumulation=4 from step 1 on: 2 did not fit into memory",
        ]

    def test_gradients_of_the_parts_before_the_one_that_failed_are_dropped(self, tmp_path):
        one, _, _ = made(tmp_path / "halved", batch_size=4, max_steps=2, evaluate_every=2, accumulation=2)
        loss, calls = one._loss, []

        def second_fails(inputs: dict[str, Any], share: float) -> torch.Tensor:
            calls.append(share)
            if len(calls) == 2:
                raise torch.cuda.OutOfMemoryError(OOM)
            return loss(inputs, share)

        one._loss = second_fails  # type: ignore[method-assign]
        assert one.fit(resume=False).smaller == [[0, 4]]
        other, _, _ = made(tmp_path / "asked", batch_size=4, max_steps=2, evaluate_every=2, accumulation=4)
        other.fit(resume=False)
        assert same(state(one), state(other))

    def test_with_dropout_too_nothing_of_the_failed_attempt_is_left(self, tmp_path):
        states = []
        for name, options in (("halved", {}), ("asked", {"accumulation": 2})):
            one, _, _ = made(tmp_path / name, batch_size=4, max_steps=3, evaluate_every=3, **options)
            one.bare.train()
            for module in one.bare.modules():
                if "dropout" in type(module).__name__.lower() and hasattr(module, "p"):
                    module.p = 0.3
            for layer in (m for m in one.bare.modules() if hasattr(m, "lora_dropout")):
                layer.lora_dropout["default"] = torch.nn.Dropout(0.3)
            self.limited(one, 2)
            torch.manual_seed(5)
            one.fit(resume=False)
            states.append(state(one))
        assert same(*states)

    def test_single_examples_that_do_not_fit_end_the_run_with_what_would_and_no_queue_tries_again(self, tmp_path):
        one, _, _ = made(tmp_path)
        before = state(one)
        self.limited(one, 0)
        with pytest.raises(KasaCordaError, match=r"one example of up to 12 tokens.*checkpointing=true") as told:
            one.fit(resume=False)
        assert cause_of(told.value) is None and same(before, state(one))

    def test_memory_that_runs_out_while_weights_change_is_left_to_the_queue(self, tmp_path):
        one, _, _ = made(tmp_path)

        def failing(*_: Any, **__: Any) -> None:
            raise torch.cuda.OutOfMemoryError(OOM)

        one.optimizer.step = failing
        with pytest.raises(torch.cuda.OutOfMemoryError) as told:
            one.fit(resume=False)
        assert cause_of(told.value) == "memory" and one.fitted.smaller == []

    def test_other_errors_are_not_taken_for_it(self, tmp_path):
        one, _, _ = made(tmp_path)
        one._loss = lambda inputs, share: (_ for _ in ()).throw(RuntimeError("shapes differ"))  # type: ignore
        with pytest.raises(RuntimeError, match="shapes differ"):
            one.fit(resume=False)

    def test_a_resumed_run_keeps_its_smaller_micro_batches(self, tmp_path):
        one, _, _ = made(tmp_path)
        self.limited(one, 1)
        one._fitting_step(one._batch(0))
        one.fitted.step += 1
        one._save()
        again, _, _ = made(tmp_path)
        seen = self.limited(again, 1)
        assert again.fit(resume=True).smaller == [[0, 2]] and set(seen) == {1}

    @pytest.mark.parametrize(
        "error",
        [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory"), RuntimeError(OOM)],
    )
    def test_all_allocators_are_understood(self, error):
        assert ran_out_of_memory(error) and not ran_out_of_memory(RuntimeError("CUDA error: device-side assert"))


class TestCollapsed:
    def evaluated(self, predictions: list[Any], references: list[Any]) -> Evaluation:
        pairs = zip(predictions, references, strict=True)
        rows = [{"id": i, "prediction": p, "reference": r} for i, (p, r) in enumerate(pairs)]
        return Evaluation({"accuracy": 0.5}, rows)

    def test_one_class_for_the_whole_test_set_is_flagged(self):
        best, last = self.evaluated([1, 0, 1], [1, 0, 1]), self.evaluated([1, 1, 1], [1, 0, 1])
        assert collapsed({"test": best}, {"test": last}) == [
            "all 3 predictions of the last state are the same ('1'): the model has collapsed"
        ]
        assert collapsed({"mm": last}, {"mm": last})[0].startswith("mm: all 3 predictions of the best and the last")

    @pytest.mark.parametrize(("predictions", "references"), [([1, 1], [1, 1]), ([1], [0]), ([0, 1], [0, 0]), ([], [])])
    def test_what_may_be_right_is_not(self, predictions, references):
        found = self.evaluated(predictions, references)
        assert collapsed({"test": found}, {"test": found}) == []

    def test_numbers_that_are_not_numbers_are_all_equal_too(self):
        found = self.evaluated([math.nan, math.nan], [0.5, 2.0])
        assert len(collapsed({"test": found}, {"test": found})) == 1


def test_new_keys_at_their_defaults_name_no_run_anew():
    from conftest import compose

    plain = compose("model=minilm", "task=reviews")
    old = {key: value for key, value in plain.items() if key != "deterministic"}
    old["trainer"] = {key: value for key, value in plain["trainer"].items() if key != "nonfinite"}
    assert run_id(plain) == run_id(old)
    assert run_id({**plain, "deterministic": True}) != run_id(plain)
    assert run_id({**plain, "trainer": {**plain["trainer"], "nonfinite": "skip"}}) != run_id(plain)


def test_checkpoints_from_before_these_counts_are_read():
    stored = dataclasses.asdict(FitProgress(step=3))
    for key in ("skipped", "in_a_row", "overflows", "smaller"):
        del stored[key]
    assert FitProgress.read(stored).accumulation(TrainerConfig(learning_rate=1.0, accumulation=2)) == 2


class TestWholeRun:
    @pytest.fixture
    def lines(self, tiny_bert, tiny_glue, tmp_path) -> list[str]:
        lines = [f"model.path={tiny_bert}", f"data_dir={tiny_glue}", f"run_root={tmp_path}", "model=local"]
        lines += ["task=glue/sst2", "task.max_length=32", "task.train_examples=24", "task.held_out=12", "method=lora"]
        return [*lines, "trainer.max_steps=4", "trainer.batch_size=8", "scale.threads=1"]

    def test_a_rate_that_is_far_too_high_ends_as_diverged_with_the_examples_of_the_batch(self, lines):
        from conftest import compose

        from kasa_corda.report.records import read_run

        config, directory = prepare(compose(*lines, "trainer.learning_rate=1e30"))
        with pytest.raises(Diverged):
            launch(config, directory, ["test"])
        assert directory.status()["diverged"] is True and directory.result() is None
        (row,) = (json.loads(line) for line in (directory.path / "nonfinite.jsonl").read_text().splitlines())
        assert directory.status()["error"].startswith(f"diverged at step {row['step']}: ")
        assert len(row["examples"]) == 8 and all(name.startswith("train") for name in row["examples"])
        assert read_run(directory.path).state == "failed" and "diverged" in read_run(directory.path).error

    def test_a_model_that_answers_everything_alike_is_flagged_and_the_report_shows_it(self, lines, tiny_glue, tmp_path):
        from conftest import compose

        from kasa_corda.report import build_report
        from kasa_corda.report.render import markdown

        data = Path(shutil.copytree(tiny_glue, tmp_path / "data"))
        train = data / "glue" / "SST-2" / "train.tsv"
        train.write_text(re.sub(r"\t[01]$", "\t1", train.read_text(), flags=re.MULTILINE))
        more = [f"data_dir={data}", "trainer.learning_rate=0.03", "trainer.max_steps=30"]
        config, directory = prepare(compose(*lines, *more))
        launch(config, directory, ["test"])
        assert {row["prediction"] for row in directory.predictions("test")} == {1}
        (flagged,) = [note for note in directory.result()["notes"] if "the model has collapsed" in note]
        report = build_report([tmp_path])
        assert flagged in markdown(report.tables, report.records).replace("\\", "")
        assert directory.result()["skipped_steps"] == {"nonfinite": 0, "overflow": 0}
