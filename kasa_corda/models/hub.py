"""Model folders from the Hugging Face hub: first its cache on this machine, then the hub itself."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ..errors import DataError
from .fingerprint import has_vocabulary
from .network import within

ANSWER_SECONDS = 8.0
SHORT_SECONDS = 3.5
"""patience with the hub where a package is the alternative"""
WEIGHTS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
NEEDED = (
    *WEIGHTS,
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "spm.model",
    "sentencepiece*",
)
CONVERTER = "SFconvertbot"
"""the hub's own account that offers safetensors versions of pickled weights"""


class NotOnHub(DataError):
    """Why a model did not come from the hub."""


def cached_snapshot(hub_id: str, revision: str | None) -> Path | None:
    """The newest complete snapshot in the hub's cache, or None. Touches no network."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for name in [revision] if revision else ["main", *_cached_pull_requests(hub_id)]:
        try:
            found = try_to_load_from_cache(hub_id, "config.json", revision=name)
        except HFValidationError:
            return None
        folder = Path(found).parent if isinstance(found, str) else None
        if folder and has_weights(folder) and has_vocabulary(folder):
            return folder
    return None


def has_weights(folder: Path) -> bool:
    """Whether all safetensors files are there: the single one, or every one that the index names."""
    try:
        index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
        return all((folder / name).is_file() for name in set(index["weight_map"].values()))
    except FileNotFoundError:
        return (folder / "model.safetensors").is_file()
    except (OSError, ValueError, KeyError, AttributeError):
        return False


def fetch_snapshot(
    hub_id: str, revision: str | None, remote_code: bool = False, seconds: float = ANSWER_SECONDS
) -> Path:
    """Download a model into the hub's cache. NotOnHub if the hub does not answer within ``seconds``.

    Only safetensors weights are fetched; where a repository has none, the version that the hub's
    conversion account offers as a pull request.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    if constants.is_offline_mode():
        raise NotOnHub("the hub is switched off by HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE")
    api = HfApi()
    try:
        files = within(seconds, _files, api, hub_id, revision)
        if not _has(files, WEIGHTS) and revision is None:
            revision = within(seconds, _converted, api, hub_id)
            files = within(seconds, _files, api, hub_id, revision) if revision else []
        if not _has(files, WEIGHTS):
            raise NotOnHub(f"{hub_id} has no safetensors weights on the hub, and pickled ones are never opened")
        wanted = [name for name in files if _has([name], (*NEEDED, "*.py") if remote_code else NEEDED)]
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=wanted, etag_timeout=seconds))
    except NotOnHub:
        raise
    except Exception as error:
        raise NotOnHub(_reason(hub_id, error)) from None


def fetch_adapter(hub_id: str, seconds: float = ANSWER_SECONDS) -> Path:
    """Download a PEFT adapter (safetensors only) into the hub's cache, or find it there; NotOnHub if neither can be."""
    from huggingface_hub import snapshot_download

    files = ["adapter_config.json", "adapter_model.safetensors"]
    try:
        return Path(within(4 * seconds, lambda: snapshot_download(hub_id, allow_patterns=files, etag_timeout=seconds)))
    except Exception as error:
        raise NotOnHub(_reason(hub_id, error)) from None


def _files(api: Any, hub_id: str, revision: str | None) -> list[str]:
    """Names of the files at the top of the repository."""
    info = api.model_info(hub_id, revision=revision, timeout=ANSWER_SECONDS)
    return [file.rfilename for file in info.siblings or [] if "/" not in file.rfilename]


def _converted(api: Any, hub_id: str) -> str | None:
    """The pull request with the safetensors version, as a revision."""
    offers = api.get_repo_discussions(hub_id, author=CONVERTER, discussion_type="pull_request")
    numbers = [offer.num for offer in offers if offer.author == CONVERTER and "safetensors" in offer.title.lower()]
    return f"refs/pr/{max(numbers)}" if numbers else None


def _has(names: list[str], patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for name in names for pattern in patterns)


def _cached_pull_requests(hub_id: str) -> list[str]:
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}" / "refs" / "refs" / "pr"
    return [f"refs/pr/{path.name}" for path in sorted(folder.glob("*"), reverse=True)]


def _reason(hub_id: str, error: Exception) -> str:
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{hub_id}"
    if isinstance(error, errors.GatedRepoError):
        return f"{hub_id} is gated: accept its licence at {page} and log in with 'hf auth login'"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{hub_id} has no such revision on the hub"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{page} does not exist or is private (then log in with 'hf auth login')"
    first = str(error).strip().split("\n")[0]
    return f"{constants.ENDPOINT} can't be reached ({first or type(error).__name__})"
