"""Memory that runs out in a training step: the same step in smaller micro-batches."""

from __future__ import annotations

import gc
from dataclasses import dataclass

import torch

from .config import TrainerConfig
from .errors import KasaCordaError
from .launch import OUT_OF_MEMORY


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU's, torch's CPU or Python's allocator gave up."""
    wanting = isinstance(error, torch.cuda.OutOfMemoryError | MemoryError)
    return wanting or any(words in str(error).lower() for words in OUT_OF_MEMORY)


@dataclass(frozen=True)
class RandomState:
    """What dropout draws from, on the CPU and on the device of a run."""

    cpu: torch.Tensor
    device: torch.Tensor | None

    @classmethod
    def of(cls, device: torch.device) -> RandomState:
        on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(torch.get_rng_state(), on_gpu)

    def restore(self, device: torch.device) -> None:
        torch.set_rng_state(self.cpu)
        if self.device is not None:
            torch.cuda.set_rng_state(self.device, device)


def give_back() -> None:
    """Return what a failed step held. To be called when its exception, and so its frames, are gone."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def too_large(config: TrainerConfig, accumulation: int, longest: int) -> KasaCordaError:
    """What to say where single examples don't fit. It has none of the words that make a queue try again: it would run
    the same micro-batches."""
    ways = [] if config.gradient_checkpointing else ["trainer.gradient_checkpointing=true"]
    ways += [] if config.precision != "fp32" else ["trainer.precision=bf16"]
    ways += [f"task.max_length below {longest}", "model.dtype=bfloat16"]
    return KasaCordaError(
        f"a training step does not fit into memory with one example of up to {longest} tokens at a time"
        f" (trainer.accumulation={accumulation}); less is needed with {', '.join(ways[:-1])} or {ways[-1]}"
    )
