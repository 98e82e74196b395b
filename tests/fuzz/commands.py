"""Command lines: keys of a config with values they were not made for, odd flags, and damaged lines that were sound."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from random import Random
from typing import Any

from conftest import ROOT

from .cases import Attempt
from .kinds import Kind

VALUES = (
    "", "null", "nan", "inf", "-inf", "1e999", "-1", "0", "0.5", "1e-320", "99999999999999999999999", "true", "abc",
    "[]", "[1,2]", "[[]]", "{}", "{a:1}", "[", "{", "'", '"', "'x", "${seed}", "${nothing}", "${oc.env:HOME}", "$",
    "${oc.env:NOTHING}", "???", "../../etc", "/dev/null", "~", "a b", "a,b", "x" * 5000, "\u00e9\u2028", "\ud83d\ude00",
    "<script>", "=1", "a=b", "@x", "#", "\\", "0x10", "1_000", "007", "+1", "None", "range(1,3)", "choice(1,2)", "a:b",
    "!!python/object:x", "\t", "\n", "\x00"[:0] + "\x1b[31m",
)  # fmt: skip
WHOLE = (
    "", "=", "==", "a", "a=", "=a", "+", "++", "~", "+=", "+a=1", "++a.b=1", "~a", "~seed=0", "-", "--", "---", "-m",
    "-m -m", "--multirun", "--help", "-h --cfg", "--cfg job", "--cfg nothing", "--info", "--info all", "--resolve",
    "--config-name=x", "--config-dir=/nowhere", "--config-path=..", "--package=x", "--shell-completion", "--run",
    "--version", "--experimental-rerun=x", "hydra.run.dir=/proc/x", "hydra/launcher=", "hydra=", "hydra.job.name=",
    "hydra.searchpath=[file:///nowhere]", "seed@x=1", "task@method=glue/sst2", "method@=lora", "method=[lora]",
    "a.b.c.d=1", "method={name:lora}", "task=../glue/sst2",
    "task=/glue/sst2", "task=glue", "task=glue/", "method=", "suite=",
    "suite=../../x", "suite=pocket_glue,paper_glue", "suite=pocket_glue seed=x", "experiment=../x", "seed=1 seed=2",
    "task.labels=[0]", "task.columns=[]", "task.also_evaluate=[x]", "evaluator.forgetting=", "evaluator.forgetting=,",
    "method.budget=0", "method.budget=x", "method.budget=lora:", "trainer.betas=1", "method.target_modules='['",
    "method.target_modules=['(']", "method.target_modules=[a.*b]", "run_root=", "run_root=/proc/x", "data_dir=",
    "model.path= model=local", "model=local model.path=/dev/null", "model=local model.path=~nobody/x",
    "model.hidden_size=0", "model.heads=7", "model.layers=100000000", "model.vocab_size=0", "model.name=../../x",
    "task.name=../../x", "method.label=../../x", "method=adapter method.path=/", "method=adapter", "scale.devices=0",
    "scale.devices=100000", "scale.threads=-1", "trainer.batch_size=0", "trainer.accumulation=0", "trainer.max_steps=0",
    "calibration.samples=0 method=corda_ipa", "calibration.source=x method=corda_ipa", "-m seed=", "-m seed=range(0)",
    "-m seed=range(3,1)", "-m method=", "-m method=glob(*)", "-m method=glob(x*)", "-m seed=0,0,0", "-m seed='0,1",
    "-m hydra/sweeper=x", "-m hydra.sweep.dir=/proc", "-m seed=choice()", "-m seed=shuffle(0,1)",
    "-m trainer.epochs=1e9,2",
)  # fmt: skip


class CommandLines(Kind):
    """Each is planned (dry_run=true), so what is accepted starts nothing."""

    name = "command lines"

    def hand_made(self) -> int:
        return len(WHOLE)

    def attempt(self, n: int, random: Random) -> Attempt:
        known = [case.arguments for group in wrong().CASES.values() for case in group if not case.without]
        if n < len(WHOLE):
            arguments = WHOLE[n].split(" ")
        elif n % 3 == 0:
            arguments = [damaged(part, random) for part in shlex.split(random.choice(known))]
        else:
            arguments = list(self.drawn(random))
        return Attempt(" ".join(arguments)[:300], lambda: self.run(arguments))

    def drawn(self, random: Random) -> Iterable[str]:
        """One to three keys of some config with values of another kind, now and then as a sweep."""
        method = random.choice(("lora", "kasa", "corda_ipa", "adapter", "houlsby", "prompt_tuning"))
        task = random.choice(("reviews", "glue/sst2", "gsm8k", "e2e"))
        model = "smollm2_135m" if task in ("gsm8k", "e2e") else "minilm"
        yield from (f"method={method}", f"task={task}", f"model={model}")
        keys = sorted(keys_of(self.samples.plain()))
        for _ in range(random.choice((1, 1, 2, 3))):
            key = random.choice(keys)
            if key != "dry_run":
                yield f"{random.choice(('', '', '', '+', '++', '~'))}{key}={random.choice(VALUES)}"
        if random.random() < 0.15:
            yield "-m"

    def run(self, arguments: list[str]) -> None:
        """As ``python run.py``, in an empty folder, without a network; launching anything is an error."""
        script = wrong()
        self.scratch.mkdir(parents=True, exist_ok=True)
        found = script.answer(script.Case(shlex.join([*arguments, "dry_run=true"]), ()), str(self.scratch))
        if "Traceback" in found.message or "Error executing job" in found.message or "AssertionError" in found.message:
            raise RuntimeError(found.message[-4000:])
        sys.stderr.write(found.message)
        raise SystemExit(found.code)


def wrong() -> Any:
    """scripts/wrong_commands.py: the list of wrong command lines with what they must say."""
    if str(ROOT / "scripts") not in sys.path:
        sys.path.append(str(ROOT / "scripts"))
    import wrong_commands

    return wrong_commands


def keys_of(plain: dict[str, Any], prefix: str = "") -> Iterable[str]:
    for key, value in plain.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from keys_of(value, f"{prefix}{key}.")


def damaged(text: str, random: Random) -> str:
    """A character less, more, twice or another."""
    at = random.randrange(len(text) + 1)
    odd = random.choice("=,.[]{}'\"$~+-@:/\\ \u00e90")
    return random.choice(
        (text[:at] + text[at + 1 :], text[:at] + odd + text[at:], text[:at] * 2 + text[at:], text[:at])
    )
