"""Whatever is wrong with a stored adapter, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError, KasaCordaError


@contextmanager
def reading_adapter(folder: Path) -> Iterator[None]:
    """Turn what safetensors, JSON, PEFT and torch raise about the files of a damaged adapter into a DataError.

    Files from anywhere are read here, so any exception may come; MemoryError stays what it is.
    """
    try:
        yield
    except (KasaCordaError, MemoryError):
        raise
    except Exception as error:
        first = str(error).strip().split("\n")[0][:300]
        raise DataError(
            f"the adapter in {folder} can't be put onto this model ({type(error).__name__}: {first});"
            " it is damaged, or belongs to another model or method"
        ) from None
