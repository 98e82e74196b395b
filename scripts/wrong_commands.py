"""Write docs/wrong_commands.md from the list below: python scripts/wrong_commands.py [--check | --json]

Every command of the list is really run, in this process, without a model or data set being loaded.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import runpy
import shlex
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "wrong_commands.md"


@dataclass(frozen=True)
class Case:
    """One wrong command line and what its message must contain."""

    arguments: str
    says: tuple[str, ...]
    """fragments: the key, the value, what would be valid"""
    without: tuple[str, ...] = ()
    """packages that are treated as not installed"""
    environment: tuple[tuple[str, str], ...] = ()
    starts: bool = False
    """true if the mistake shows only after the run has started (its data is looked for, or its device)"""


@dataclass(frozen=True)
class Answer:
    """What the command line answered."""

    message: str
    code: int
    seconds: float
    torch: bool
    """whether torch had been imported by then"""


def case(arguments: str, *says: str, **more: Any) -> Case:
    return Case(arguments, says, **more)


CASES = {
    "Names": (
        case("method=kassa", "method=kassa is unknown", "did you mean kasa"),
        case("model=roberta", "model=roberta is unknown", "roberta_base"),
        case("task=sst2", "task=sst2 is unknown", "did you mean glue/sst2"),
        case("task=glue/sst", "task=glue/sst is unknown", "glue/sst2"),
        case("evaluator=classify", "evaluator=classify is unknown", "classification"),
        case("trainer=papers", "trainer=papers is unknown", "did you mean paper"),
        case("tracker=wandbb", "tracker=wandbb is unknown", "did you mean wandb"),
        case("scale=large", "scale=large is unknown", "paper, pocket"),
        case("experiment=demos", "experiment=demos is unknown", "did you mean demo"),
        case("suite=pocket_glu", "suite=pocket_glu is unknown", "did you mean pocket_glue"),
        case("-m hydra/launcher=slurm seed=0,1", "hydra/launcher=slurm is unknown", "did you mean submitit_slurm"),
        case("-m method=lora,kassa", "method=kassa is unknown", "did you mean kasa"),
    ),
    "Keys": (
        case("metod=kasa", "metod=kasa", "did you mean method"),
        case("method.rang=4", "method.rang=4", "did you mean method.rank"),
        case("learning_rate=1e-3", "learning_rate=1e-3", "trainer.learning_rate"),
        case("trainer.lr=1e-3", "trainer.lr=1e-3: there is no key trainer.lr", "trainer.learning_rate"),
        case("method=probe method.rank=4", "method.rank=4", "the chosen method has no key method.rank", "lora"),
        case("method=lora method.beta=0.1", "method.beta=0.1", "the chosen method has no key method.beta", "kasa"),
        case("+method.rang=4", "method.rang=4", "did you mean method.rank"),
        case("++trainer.epoch=1", "trainer.epoch=1", "did you mean trainer.epochs"),
        case("+seeds=1", "seeds=1", "did you mean seed?"),
        case("+method=lora", "method can't be added with +", "write method=OPTION"),
        case("~method", "~method removes method", "method=VALUE"),
        case("~method.rank", "~method.rank removes method.rank", "method.rank=VALUE"),
        case("-m method.rang=4,8", "method.rang", "did you mean method.rank"),
        case("-m hydra/launcher=joblib hydra.launcher.n_job=2 seed=0,1", "n_job=2", "hydra.launcher.n_jobs"),
    ),
    "Values": (
        case("seed=abc", "seed=abc must be a whole number"),
        case("seed=-1", "seed=-1 must be at least 0"),
        case("seed=null", "seed=null must be", "not null"),
        case("method.rank=4.5", "method.rank=4.5 must be a whole number"),
        case("method.rank=0", "method.rank=0 must be at least 1"),
        case("method.alpha=0", "method.alpha=0", "above 0"),
        case("method.dropout=1", "method.dropout=1", "below 1"),
        case("force=maybe", "force=maybe must be true or false"),
        case("trainer.learning_rate=-1e-3", "trainer.learning_rate=-0.001 must be above 0"),
        case("trainer.learning_rate=nan", "trainer.learning_rate=nan must be a finite number"),
        case("trainer.learning_rate=fast", "trainer.learning_rate=fast must be a number"),
        case("trainer.head_learning_rate=inf", "trainer.head_learning_rate=inf must be a finite number"),
        case("trainer.epochs=0", "trainer.epochs=0", "above 0"),
        case("trainer.weight_decay=-0.1", "trainer.weight_decay=-0.1 must be at least 0"),
        case("trainer.schedule=linaer", "trainer.schedule=linaer is unknown", "did you mean linear"),
        case("trainer.precision=fp8", "trainer.precision=fp8 is unknown", "bf16"),
        case("selection=test", "selection=test is unknown", "held_out, paper"),
        case("trainer=3", "trainer=3 is unknown", "default"),
        case("method.variant=author", "method.variant=author is unknown", "did you mean authors"),
        case("-m seed=0,x", "seed=x must be a whole number"),
    ),
    "Combinations": (
        case("method=lora method.rank=500", "method.rank=500 is larger than layer", "method.rank=384 or less"),
        case("method=kasa method.rank=384", "method.rank=384", "384 x 384", "method.rank=383 or less"),
        case("method.target_modules=q_proj", "method.target_modules=q_proj matches no linear layer", "query"),
        case("method.target_modules=[query,valeu]", "method.target_modules=valeu", "did you mean value"),
        case("method.target_modules=[]", "method.target_modules=[]", "qv, five, all_linear"),
        case("task.kind=generation", "task=reviews generates text", "model=minilm", "model=smollm2_135m"),
        case("task.max_length=1000", "task.max_length=1000 is above the 512 positions", "model=minilm"),
        case("task.metric=pearson", "task.metric=pearson can't score task=reviews", "accuracy"),
        case("trainer.warmup=100 trainer.max_steps=50", "trainer.warmup=100", "trainer.max_steps=50"),
        case("trainer.warmup=1.5", "trainer.warmup=1.5", "whole number of steps"),
        case("trainer.batch_size=10 trainer.accumulation=4", "trainer.batch_size=10", "accumulation=4", "8"),
        case("scale.devices=3", "trainer.batch_size=32", "scale.devices=3", "33"),
        case("task=glue/sst2 task.labels=[bad]", "task.labels=['bad']", "two different class names"),
        case("-m method=lora method.rank=500,600", "method.rank=500 is larger than layer", "384 or less"),
    ),
    "Form": (
        case("seed=0,1", "seed=0,1 names several values", "-m"),
        case("=5", "'=5'", "key=value"),
        case("method.rank", "'method.rank'", "key=value"),
        case("method.target_modules=[query", "method.target_modules=[query", "quotes"),
        case("--method=kasa", "--method is not an option", "did you mean method=kasa"),
        case("--dry-run", "--dry-run is not an option", "did you mean dry_run="),
        case("-m --cfg job seed=0,1", "--cfg", "leave out -m"),
    ),
    "Models, data, packages": (
        case("model=local", "model=local needs a folder", "model.path=DIR"),
        case("model=local model.path=no/folder", "model.path=no/folder", "does not exist"),
        case("model=local model.path=empty", "model.path=empty", "config.json"),
        case("data_dir=no/folder task=glue/sst2", "data_dir=no/folder is not a folder"),
        case("task=glue/sst2", "KASA_CORDA_DATA=no/folder", environment=(("KASA_CORDA_DATA", "no/folder"),)),
        case("run_root=file.txt", "run_root=file.txt"),
        case("tracker=tensorboard", "tracker=tensorboard", "pip install", without=("tensorboard",)),
        case(
            "-m hydra/launcher=submitit_slurm seed=0,1",
            "hydra/launcher=submitit_slurm",
            "pip install 'kasa-corda[slurm]'",
            without=("hydra_plugins.hydra_submitit_launcher",),
        ),
        case(
            "-m hydra/launcher=ray seed=0,1",
            "hydra/launcher=ray",
            "pip install 'kasa-corda[ray]'",
            without=("hydra_plugins.hydra_ray_launcher",),
        ),
        case("task=glue/sst2", "task glue/sst2 can't be read", "connect", "data_dir=", "task=reviews", starts=True),
        case("task=glue/rte data_dir=empty", "neither glue/RTE nor RTE", "task=reviews", starts=True),
        case("trainer.precision=fp16", "trainer.precision=fp16 needs a GPU", "bf16 or fp32", starts=True),
    ),
}


def answers() -> list[tuple[Case, Answer]]:
    """Run every command in an empty folder; those that start a run come last, since they import torch."""
    forbid("launch", "launch")
    cases = sorted((case for group in CASES.values() for case in group), key=lambda case: case.starts)
    clean = {name: value for name, value in os.environ.items() if name != "KASA_CORDA_DATA"}
    before, here = dict(os.environ), Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("empty").mkdir()
        Path("file.txt").touch()
        offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": folder, "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "100"}
        try:
            found = []
            for case in cases:
                os.environ.clear()
                os.environ.update({**clean, **offline, **dict(case.environment)})
                found.append((case, answer(case, folder)))
        finally:
            os.chdir(here)
            os.environ.clear()
            os.environ.update(before)
    return found


def answer(case: Case, folder: str) -> Answer:
    """Run one command line as ``python run.py`` would."""
    if case.starts:
        allow("launch", "launch")
        forbid("pipeline", "load_model")
    hidden = {name: sys.modules.get(name) for name in case.without}
    sys.modules.update(dict.fromkeys(case.without))  # type: ignore[arg-type]
    sys.argv = ["run.py", *shlex.split(case.arguments)]
    out, err = io.StringIO(), io.StringIO()
    began = time.perf_counter()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
        code: Any = 0
    except SystemExit as stop:
        code = stop.code or 0
    except Exception:
        err.write(traceback.format_exc())
        code = 1
    finally:
        for name, module in hidden.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module
    seconds = time.perf_counter() - began
    message = (err.getvalue() + out.getvalue() if code == 0 else err.getvalue()).strip()
    message = message.replace(str(Path(folder).resolve()), ".").replace(str(ROOT), ".")
    return Answer(message, code, seconds, "torch" in sys.modules)


ALLOWED: dict[str, Any] = {}


def forbid(module: str, name: str) -> None:
    """From here on, calling this function of the package is an error of this script."""

    def called(*_: Any) -> None:
        raise AssertionError(f"{module}.{name} was called")

    place = importlib.import_module(f"kasa_corda.{module}")
    ALLOWED.setdefault(name, getattr(place, name))
    setattr(place, name, called)


def allow(module: str, name: str) -> None:
    setattr(importlib.import_module(f"kasa_corda.{module}"), name, ALLOWED[name])


def page(found: list[tuple[Case, Answer]]) -> str:
    """The table of all commands with message and exit code."""
    answer_of = dict(found)
    parts = [
        "# Wrong command lines",
        "Generated by `make docs` from `scripts/wrong_commands.py`, which runs each line; no model is loaded and, but"
        " for the lines marked with *, not even torch.",
    ]
    for title, cases in CASES.items():
        rows = [f"## {title}", "", "| `python run.py ...` | message | exit code |", "|---|---|---:|"]
        for one in cases:
            message = answer_of[one].message.removeprefix("error: ").replace("|", "\\|")
            rows.append(f"| {shown(one)} | {message} | {answer_of[one].code} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"


def shown(one: Case) -> str:
    before = " ".join(f"{name}={value}" for name, value in one.environment)
    text = f"`{before} ... {one.arguments}`" if before else f"`{one.arguments}`"
    missing = f" ({', '.join(one.without)} not installed)" if one.without else ""
    return text + missing + (" *" if one.starts else "")


def main(options: list[str]) -> int:
    found = answers()
    if "--json" in options:
        numbers = {one: number for number, one in enumerate(case for group in CASES.values() for case in group)}
        print(json.dumps([(numbers[one], asdict(got)) for one, got in found]))
        return 0
    text = page(found)
    if "--check" in options:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
            print("docs/wrong_commands.md is out of date: make docs", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    print(PAGE.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
