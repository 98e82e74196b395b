"""``evaluator.backend=vllm``: texts by vLLM in a Python environment of its own, for it pins its own torch.

The adapter is merged in float32 first and the plain model saved, since vLLM loads neither KaSA's diagonal nor DoRA; a
worker (``_vllm_worker.py``) run by ``evaluator.vllm_python`` reads prompts as token ids and writes texts.
"""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, KasaCordaError
from .decoding import Decoding

if TYPE_CHECKING:
    from ..methods import Method
    from ._batching import Finished, Request

WORKER = Path(__file__).with_name("_vllm_worker.py")
PROBE_SECONDS = 120
KEY = "evaluator.vllm_python"


def probe(python: str | None) -> str:
    """The version of vLLM that an interpreter has; ConfigError, with the reason, if it has none."""
    if not python:
        raise ConfigError(
            f"evaluator.backend=vllm needs {KEY}=/path/to/venv/bin/python, an environment with vllm; it pins its own"
            " torch, so it can't live in this one"
        )
    try:
        done = subprocess.run(
            [python, "-c", "import vllm; print(getattr(vllm, '__version__', 'unknown'))"],
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{KEY}={python} can't be run: {error}") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConfigError(f"{KEY}={python} can't import vllm: {last}")
    return done.stdout.strip().splitlines()[-1]


def generate_by_vllm(
    model: Any,
    tokenizer: Any,
    method: Method | None,
    requests: Sequence[Request],
    decoding: Decoding,
    *,
    python: str,
    folder: Path | None,
    finished: Finished,
) -> list[str]:
    """The text of every request. The model is in main memory meanwhile: the GPU is vLLM's."""
    from ._choice import row_seed
    from ._stopping import Stopping, end_tokens

    stopping, ends = Stopping(decoding.max_new_tokens, decoding.stop), sorted(end_tokens(model, tokenizer))
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".vllm_") as made, in_main_memory(model):
        work = Path(made)
        save_merged(model, tokenizer, method, work / "model")
        settings = {**asdict(decoding), "end_tokens": ends, "dtype": dtype, "model": str(work / "model")}
        (work / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        with (work / "prompts.jsonl").open("w", encoding="utf-8") as file:
            for request in requests:
                file.write(json.dumps({"ids": request.ids, "seed": row_seed(request, decoding)}) + "\n")
        # a copy: Python looks for modules in a script's folder first, and ours would hide its own (math)
        worker = shutil.copy(WORKER, work / "worker.py")
        done = subprocess.run([python, worker, str(work)], stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise KasaCordaError(f"vLLM failed ({KEY}={python}): {_explained(done.stderr, folder)}")
        lines = (work / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    if len(rows) != len(requests):
        raise KasaCordaError(f"vLLM wrote {len(rows)} texts for {len(requests)} prompts")
    texts = [stopping.cut(row["text"]) for row in rows]
    for request, text, row in zip(requests, texts, rows, strict=True):
        finished(request, text, row["tokens"])
    return texts


def _explained(told: str, folder: Path | None) -> str:
    """The last line of what vLLM said, and where all of it is."""
    last = (told.strip().splitlines() or ["it said nothing"])[-1]
    if folder is None:
        return last
    (folder / "vllm.log").write_text(told, encoding="utf-8")
    return f"{last} ({folder / 'vllm.log'})"


@contextmanager
def in_main_memory(model: Any) -> Iterator[None]:
    """Nothing of the model on the GPU while another process uses it."""
    import torch

    device = next(model.parameters()).device
    if device.type == "cpu":
        yield
        return
    model.to("cpu")
    torch.cuda.empty_cache()
    try:
        yield
    finally:
        model.to(device)


def save_merged(model: Any, tokenizer: Any, method: Method | None, folder: Path) -> None:
    """A copy of the model as a plain transformers folder: merged in float32, then in its own dtype."""
    import torch

    if getattr(model.config, "quantization_config", None) is not None:
        raise ConfigError("evaluator.backend=vllm can't merge an adapter into packed weights; use evaluator.backend=hf")
    dtype = next(model.parameters()).dtype
    merged: Any = copy.deepcopy(model).to(torch.float32)
    if method is not None:
        merged = method.merge(merged)
    if hasattr(merged, "merge_and_unload"):  # method=adapter: any PEFT adapter
        merged = merged.merge_and_unload()
    plain = merged.to(dtype)
    if any(isinstance(getattr(module, "wraps", None), str) for module in plain.modules()):
        raise ConfigError("this adapter can't be merged, which evaluator.backend=vllm needs; use evaluator.backend=hf")
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
