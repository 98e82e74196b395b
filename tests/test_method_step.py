"""benchmarks/method_step.py at toy size: every method is measured or named with its reason, beside the same loss."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def importable():
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def bench():
    from method_models import SETTINGS, bench_of

    return bench_of(SETTINGS["toy"], torch.device("cpu"), "float32", targets="all_linear", rank=4)


def test_the_table_has_every_method_with_its_ratio_or_its_reason(tmp_path, monkeypatch):
    import method_step
    import table

    words = ["--model", "toy", "--methods", "kasa,corda_ipa,probe,adapter_drop", "--rounds", "3"]
    monkeypatch.setattr(sys, "argv", ["method_step.py", *words, "--out", str(tmp_path)])
    method_step.main()
    stored = json.loads((tmp_path / "method_step_toy_cpu.json").read_text())
    rows = {row["method"]: row for row in stored["table"]}
    assert rows.keys() == {"lora", "kasa", "corda_ipa", "probe", "adapter_drop"}
    assert "trains a task head" in rows["probe"]["not_measured"] and stored["table"][-1]["method"] == "probe"
    for name in ("lora", "kasa", "corda_ipa", "adapter_drop"):
        samples = stored["samples"][name]
        assert len(samples["method"]) == len(samples["peft_lora"]) == 3
        assert rows[name]["step_over_lora"] > 0 and rows[name]["preparation_s"] >= 0
    assert rows["kasa"]["trained"] == rows["lora"]["trained"] + 2 * 7 * 8  # a sigma of rank 8 per layer
    assert stored["sides"].keys() == {"ours", "peft_lora"} and "not measured: probe" in stored["notes"]
    section = table.section(stored)
    header = next(line for line in section.splitlines() if line.startswith("| method "))
    assert header == "| method | trained | step_over_lora | step_s | preparation_s | not_measured |"


def test_our_lora_and_peft_s_give_one_loss_with_the_same_weights(bench):
    from method_contenders import reference
    from method_step import same_loss

    peers = reference(bench)
    assert same_loss(bench, peers) <= 1e-6
    with torch.no_grad():
        before = float(peers.loss())
        for name, parameter in peers.model.named_parameters():
            if "lora_B" in name:
                parameter.add_(1.0)
        assert abs(float(peers.loss()) - before) > 1e-3  # so that an adapter that does nothing could not pass


def test_rank_and_targets_are_lora_s_only_where_the_method_s_defaults_are(bench):
    lora, vera, ia3 = (bench.config(name).method for name in ("lora", "vera", "ia3"))
    assert (lora.rank, lora.target_modules) == (4, "all_linear")
    assert (vera.rank, vera.target_modules) == (256, "all_linear")
    assert ia3.target_modules == "kv_down"


def test_a_method_never_finds_another_s_decompositions_and_leaves_the_base_alone(bench, monkeypatch, tmp_path):
    from method_contenders import Preparation
    from method_models import empty_cache

    monkeypatch.setenv("KASA_CORDA_CACHE", str(tmp_path))
    before = {name: tensor.clone() for name, tensor in bench.base.state_dict().items()}
    with empty_cache():
        Preparation(bench, "kasa", steps=1).run()
    assert list(tmp_path.iterdir()) == []
    assert all(torch.equal(tensor, before[name]) for name, tensor in bench.base.state_dict().items())


def test_methods_that_the_time_leaves_no_room_for_are_named(monkeypatch):
    import method_step
    from method_step import Times, measure_all

    monkeypatch.setattr(method_step, "measure", lambda *_: time.sleep(30))
    nothing: Any = None
    late = measure_all(nothing, ["lora"], nothing, Times(rounds=3, each=0.0, most=60.0, total=-1.0))
    assert late == {"lora": "no time left of the -1 s of --total"}
    slow = measure_all(nothing, ["lora"], nothing, Times(rounds=3, each=0.0, most=0.05, total=60.0))
    assert slow == {"lora": "TimeoutError: more than 0.05 s with its preparation"}
