"""The command line answers at once: nothing heavy is imported before a run starts, and the help page is readable."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from kasa_corda.cli.explain import GROUPS

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "transformers", "peft", "accelerate", "datasets", "pandas", "scipy", "sklearn", "matplotlib", "wandb")


def run(*arguments: str, folder: Path, flags: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, *flags, str(ROOT / "run.py"), *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("--cfg", "job"), ("method=kassa",), ("-m", "dry_run=true", "seed=0,1"), ("suite=pocket_glu",)],
    ids=" ".join,
)
def test_nothing_heavy_is_imported(arguments, tmp_path):
    done = run(*arguments, folder=tmp_path, flags=("-X", "importtime"))
    assert done.returncode in (0, 2)
    names = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "hydra" in names
    assert not names & set(HEAVY)


@pytest.mark.parametrize("arguments", [("--help",), ("--cfg", "job")], ids=" ".join)
def test_it_takes_less_than_a_second_and_a_half_of_the_processor(arguments, tmp_path):
    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    run(*arguments, folder=tmp_path)
    before = spent()
    assert run(*arguments, folder=tmp_path).returncode == 0
    assert spent() - before < 1.5


def test_help_shows_groups_with_options_keys_with_values_and_exit_codes(tmp_path):
    page = run("--help", folder=tmp_path, COLUMNS="100").stdout
    assert "schema" not in page
    for group in GROUPS:
        assert group == "hparams" or f"\n  {group} " in page
    for text in ("minilm", "glue/sst2", "pocket_glue", "submitit_slurm", "trainer.batch_size=32", "130 interrupted"):
        assert text in page
    assert max(map(len, page.splitlines())) <= 100


def test_help_describes_the_command_line_it_is_given(tmp_path):
    page = run("method=lora", "method.rank=4", "model=roberta_base", "--help", folder=tmp_path).stdout
    assert "method.rank=4 " in page
    assert "method.beta" not in page
    assert "model.hub_id=FacebookAI/roberta-b" in page
    wrong = run("method=lor", "--help", folder=tmp_path)
    assert (wrong.returncode, "did you mean lora" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("model=mini", "model=minilm"), ("suite=p", "suite=pocket_glue"), ("hydra/launcher=r", "hydra/launcher=ray")],
)
def test_tab_completes_options(typed, completed, tmp_path):
    line = f"python run.py {typed}"
    done = run("-sc", "query=bash", folder=tmp_path, COMP_LINE=line, COMP_POINT=str(len(line)))
    assert completed in done.stdout.split()
