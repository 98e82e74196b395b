"""A few real training steps of every method: python distributed_steps.py OUT ACCUMULATION...

Run alone, or as one of several processes (RANK, WORLD_SIZE, ...). Writes OUT/rank{r}_accumulation{a}.safetensors, the
trained state of every case, and OUT/errors_rank{r}.json.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from method_cases import Case, cases
from safetensors.torch import save_file

from kasa_corda.checkpoint import CheckpointFolder
from kasa_corda.config import TrainerConfig
from kasa_corda.progress import Progress
from kasa_corda.training import Trainer

STEPS, BATCH = 3, 4
TOKENIZER = SimpleNamespace(padding_side="right", pad_token_id=0, pad_token_type_id=0)


def examples(kind: str) -> list[dict]:
    """Texts of 4 to 9 tokens; the first tokens of a language model's are no labels, as a prompt's aren't."""
    generator = torch.Generator().manual_seed(7)
    found = []
    for index in range(STEPS * BATCH):
        ids = torch.randint(5, 20, (4 + index % 6,), generator=generator).tolist()
        labels = index % 2 if kind == "encoder" else [-100] * (1 + index % 3) + ids[1 + index % 3 :]
        found.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels})
    return found


def trained(case: Case, accelerator: Accelerator, accumulation: int, folder: Path) -> dict[str, torch.Tensor]:
    """The trained state after STEPS steps of the trainer, without dropout, which no two splits of a batch share."""
    model, method = case.adapted()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    settings = TrainerConfig(
        learning_rate=1e-2,
        batch_size=BATCH,
        accumulation=accumulation,
        max_steps=STEPS,
        warmup=0,
        schedule="constant",
        epsilon=1e-2,  # of the size of gradients: Adam's first steps would hide a wrong scale of them
        group_by_length=False,
    )
    trainer = Trainer(
        settings,
        method,
        model,
        examples(case.kind),
        TOKENIZER,
        accelerator=accelerator,
        head=[name for name in ("classifier", "score") if hasattr(model, name)],
        seed=0,
        metric="none",
        evaluate=lambda: {"none": 0.0},
        log=lambda event: None,
        checkpoints=CheckpointFolder(folder / str(case)),
        progress=Progress(show=False),
    )
    trainer.fit(resume=False)
    accelerator.free_memory()
    return {name: tensor.clone().contiguous() for name, tensor in method.trained_state(model).items()}


def main(out: Path, accumulations: list[int]) -> None:
    torch.set_num_threads(1)
    ddp = DistributedDataParallelKwargs(find_unused_parameters=False)
    accelerator = Accelerator(cpu=True, kwargs_handlers=[ddp, InitProcessGroupKwargs(timeout=timedelta(seconds=60))])
    rank, errors = accelerator.process_index, {}
    for accumulation in accumulations:
        states: dict[str, torch.Tensor] = {}
        for case in cases():
            try:
                folder = out / f"checkpoints{accelerator.num_processes}_{accumulation}"
                found = trained(case, accelerator, accumulation, folder)
            except Exception as error:
                errors[f"{case} with accumulation {accumulation}"] = f"{type(error).__name__}: {error}"
                accelerator.free_memory()
                continue
            states |= {f"{case}/{name}": tensor for name, tensor in found.items()}
        save_file(states, out / f"rank{rank}_accumulation{accumulation}.safetensors")
    (out / f"errors_rank{rank}.json").write_text(json.dumps(errors))
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(text) for text in sys.argv[2:]])
