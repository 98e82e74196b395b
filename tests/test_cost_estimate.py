"""The cost of one run: what makes it dearer, what it shares, how it fits what was measured."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from kasa_corda.cli.compose import composed
from kasa_corda.config import RunConfig
from kasa_corda.cost import Estimate, estimate
from kasa_corda.cost.estimate import Seconds
from kasa_corda.cost.fitting import fitted
from kasa_corda.cost.observed import Observation, compared, read, spread
from kasa_corda.cost.profile import MEASURED, Profile, profile_for, read_profiles, slug
from kasa_corda.cost.shape import shape_of
from kasa_corda.plan import counted

H100 = "NVIDIA H100 80GB HBM3"


@pytest.fixture(scope="module")
def gpu() -> Profile:
    return read_profiles()[H100]


@pytest.fixture(scope="module")
def glue() -> RunConfig:
    return composed(["method=lora", "model=minilm", "task=glue/mrpc"])


@pytest.fixture(scope="module")
def gsm8k() -> RunConfig:
    return composed(["method=lora", "model=llama2_7b", "task=gsm8k", "trainer.precision=bf16", "trainer.batch_size=8"])


def test_more_steps_cost_proportionally_more_of_the_fit(glue: RunConfig, gpu: Profile) -> None:
    one, ten = (estimate(replace(glue, trainer=replace(glue.trainer, max_steps=n)), gpu) for n in (100, 1000))
    assert ten.by_phase["fit"] == pytest.approx(10 * one.by_phase["fit"])


def test_longer_inputs_cost_more_time_and_memory(gsm8k: RunConfig, gpu: Profile) -> None:
    short, long = (estimate(replace(gsm8k, task=replace(gsm8k.task, max_length=n)), gpu) for n in (128, 512))
    assert long.busy > short.busy  # the wall may be the host's, which starts as many kernels
    assert long.seconds >= short.seconds
    assert long.device_bytes > short.device_bytes


def test_a_larger_model_costs_more_of_everything(gpu: Profile) -> None:
    def of(model: str) -> Estimate:
        return estimate(composed(["method=kasa", f"model={model}", "task=glue/sst2"]), gpu)

    small, large = (of(name) for name in ("roberta_base", "roberta_large"))
    assert large.seconds > small.seconds
    assert large.device_bytes > small.device_bytes
    assert large.disk_bytes > small.disk_bytes


def test_checkpointing_saves_memory_and_costs_time(gsm8k: RunConfig, gpu: Profile) -> None:
    plain, saving = (
        estimate(replace(gsm8k, trainer=replace(gsm8k.trainer, gradient_checkpointing=on)), gpu) for on in (False, True)
    )
    assert saving.device_bytes < plain.device_bytes
    assert saving.by_phase["fit"] > plain.by_phase["fit"]


def test_a_search_trial_is_not_charged_for_the_test_set(gsm8k: RunConfig, gpu: Profile) -> None:
    trial = replace(gsm8k, evaluator=replace(gsm8k.evaluator, test=False))
    assert estimate(trial, gpu).by_phase["evaluate"] < 0.5 * estimate(gsm8k, gpu).by_phase["evaluate"]


def test_an_untrained_model_is_only_evaluated(gpu: Profile) -> None:
    found = estimate(composed(["method=base", "model=smollm2_135m", "task=gsm8k"]), gpu)
    assert found.by_phase["fit"] == 0
    assert found.by_phase["evaluate"] > 0


def test_runs_that_share_a_gpu_wait_for_it_but_not_for_each_others_host(glue: RunConfig, gpu: Profile) -> None:
    alone, among = estimate(glue, gpu), estimate(glue, gpu, concurrent=12)
    assert alone.seconds < among.seconds < 12 * alone.seconds
    assert Seconds(host=2.0, device=1.0).together(2) == 2.0
    assert Seconds(host=2.0, device=1.0).together(3) == 3.0


@pytest.mark.parametrize(
    "method", ["lora", "kasa", "pissa", "full", "probe", "method=kasa method.rank=32 method.target_modules=all_linear"]
)
def test_trainable_parameters_come_near_those_of_the_built_model(method: str) -> None:
    words = method.split() if "=" in method else [f"method={method}"]
    config = composed([*words, "model=minilm", "task=glue/sst2"])
    exact = counted(config, 1)[1]
    added = 0 if method == "full" else exact["adapter"]
    assert shape_of(config).total == pytest.approx(exact["total"] - added, rel=0.001)
    assert shape_of(config).trainable == pytest.approx(exact["trainable"], abs=0.02 * exact["total"])


def test_a_calibrated_method_shares_its_preparation_between_seeds_and_rates(gpu: Profile) -> None:
    settings = ["method=corda_kpa", "model=smollm2_135m", "task=gsm8k", "calibration=wikitext2"]
    first, second = (
        estimate(composed([*settings, f"seed={seed}", f"trainer.learning_rate={rate}"]), gpu)
        for seed, rate in ((0, 1e-4), (1, 1e-3))
    )
    other = estimate(composed([*settings, "method.rank=16"]), gpu)
    assert first.shared and first.shared == second.shared
    assert set(other.shared).isdisjoint(first.shared)


def test_stored_measurements_are_predicted_within_a_fifth(gpu: Profile) -> None:
    """The figures are fitted on these, so this only says that the model can describe them."""
    found = [c for each in read(MEASURED / slug(H100)) for c in compared(each, gpu)]
    for what in ("fit", "step", "device memory"):
        summary = spread([c for c in found if c.what == what])
        assert summary is not None
        assert summary[0] < 0.1, what
        assert abs(summary[1].error) < 0.2, summary[1]


def test_fitting_finds_the_figures_that_made_the_measurements(gpu: Profile) -> None:
    settings = [
        ["method=lora", "model=minilm", "task=glue/mrpc"],
        ["method=full", "model=roberta_large", "task=glue/sst2", "trainer.batch_size=128"],
        ["method=lora", "model=roberta_base", "task=glue/rte", "task.max_length=256"],
        ["method=lora", "model=roberta_large", "task=glue/qnli", "trainer.batch_size=8"],
    ]
    truth = replace(gpu, flops_32=2 * gpu.flops_32, host=0.6 * gpu.host)
    made = []
    for number, words in enumerate(settings):
        config = composed(words)
        seconds = {"fit": estimate(config, truth).by_phase["fit"]}
        made.append(Observation(f"made {number}", H100, asdict(config), seconds))
    again = fitted(gpu, made)
    errors = [abs(c.error) for each in made for c in compared(each, again) if c.what == "fit"]
    before = [abs(c.error) for each in made for c in compared(each, gpu) if c.what == "fit"]
    assert max(errors) < 0.1 < max(before)


def test_an_unmeasured_device_says_so() -> None:
    found = profile_for("Some Processor (8 threads)")
    assert "has not been measured" in found.note
    assert found.flops_32 == pytest.approx(4 * read_profiles()["AMD EPYC (2 threads)"].flops_32)
