"""Data sets from the Hugging Face hub: the newest when it answers, the cache when it doesn't, never a long wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..models.network import within

PATIENCE = 5.0
"""seconds the hub has to answer"""


@dataclass(frozen=True)
class HubData:
    """The splits as loaded and a sentence on where they came from."""

    splits: dict[str, Any]
    source: str


def load_hub(repository: str, config: str | None, splits: list[str], revision: str | None = None) -> HubData:
    """Load ``splits`` of one configuration; ``repository`` is a hub id or a local folder of the same layout.

    DataError within seconds if neither the hub nor the cache has it.
    """
    import datasets

    datasets.logging.set_verbosity_error()
    local = Path(repository).is_dir()
    online = not local and hub_answers()
    try:
        with offline(not online):
            loaded = datasets.load_dataset(repository, config, revision=revision)
    except Exception as error:
        # datasets raises whatever its file systems, parsers and builders raise
        if not online and isinstance(error, ConnectionError | FileNotFoundError):
            raise DataError(f"hub {repository} ({config}) does not answer and is not in its cache") from None
        raise DataError(f"hub {repository} ({config}) can't be loaded: {_first_line(error)}") from None
    missing = [name for name in splits if name not in loaded]
    if missing:
        raise DataError(f"hub {repository} ({config}) has no split {' and '.join(missing)}; found {', '.join(loaded)}")
    found = {name: loaded[name] for name in splits}
    where = f"local folder {repository}" if local else f"hub {repository}" + ("" if online else " (cache)")
    return HubData(found, f"{where}, {config}{_commit(found)}")


def hub_answers() -> bool:
    """True if the hub answers anything within PATIENCE seconds and offline mode is off."""
    import datasets
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE or datasets.config.HF_HUB_OFFLINE:
        return False
    try:
        within(PATIENCE, lambda: get_session().head(constants.ENDPOINT, timeout=PATIENCE))
    except Exception:
        # whatever is wrong with the network: the cache decides
        return False
    return True


@contextmanager
def offline(wanted: bool) -> Iterator[None]:
    """Offline mode of the hub client and of ``datasets`` while the block runs; they retry for long otherwise."""
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    if wanted:
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def _commit(splits: dict[str, Any]) -> str:
    """' at <commit>' if the files' addresses name one (hf://datasets/owner/name@commit/...)."""
    for dataset in splits.values():
        for address in dataset.info.download_checksums or {}:
            if address.startswith("hf://") and "@" in address:
                return " at " + address.split("@", 1)[1].split("/", 1)[0][:12]
    return ""


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.split("\n")[0] if text else type(error).__name__
