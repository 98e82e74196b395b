"""transformers without its own bars and reports; what matters of them is said by us."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr


def silence_deprecations() -> None:
    """No notices of transformers about its own future names, which peft still uses."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and nothing below an error from transformers inside the block.

    Bars that transformers draws by itself (GGUF) stay in a terminal and are dropped in a log file.
    """
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
