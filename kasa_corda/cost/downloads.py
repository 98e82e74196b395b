"""What a suite would have to fetch: models and data that are not on this machine, their size, and licence clicks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..config import RunConfig
from ..data import data_folder
from ..methods import METHODS
from ..models.size import parameter_count
from .lengths import table

HUB, INDEX = "hub", "package index"
CALIBRATION_BYTES = {"wikitext2": 8 * 10**6, "nq_open": 10**7, "triviaqa": 10**8, "c4": 32 * 10**7}
"""of the texts behind a calibration source, about"""


@dataclass(frozen=True)
class Download:
    """One model or data set that is not here."""

    kind: str
    """model or data"""
    name: str
    octets: int
    origin: str
    """hub or package index"""
    gated: bool = False


def downloads(configs: Iterable[RunConfig]) -> list[Download]:
    """Each once, models first, the largest first."""
    found: dict[tuple[str, str], Download | None] = {}
    for config in configs:
        model = ("model", str(config.model.path or config.model.package or config.model.hub_id or config.model.name))
        if model not in found:
            found[model] = _model(config)
        folder = data_folder(config)
        settings = {config.task.name: asdict(config.task), **(getattr(config.task, "also_evaluate", None) or {})}
        for name, values in settings.items():
            if ("data", name) not in found:
                found["data", name] = _data(name, values, folder)
        if METHODS[config.method.name].calibrated and config.calibration is not None:
            source = str(config.calibration.source)
            if source in CALIBRATION_BYTES and ("data", source) not in found and not _local(source, folder):
                found["data", source] = Download("data", source, CALIBRATION_BYTES[source], HUB)
    needed = [each for each in found.values() if each is not None]
    return sorted(needed, key=lambda each: (each.kind != "model", -each.octets))


def _model(config: RunConfig) -> Download | None:
    from ..models.cache import is_complete
    from ..models.hub import cached_snapshot
    from ..models.packages import package_folder, package_of

    model = config.model
    if model.path:
        return None
    if model.hub_id and cached_snapshot(model.hub_id, model.revision):
        return None
    if model.package:
        package = package_of(model.package)
        return (
            None if is_complete(package_folder(model.package)) else Download("model", model.name, package.size, INDEX)
        )
    count = parameter_count(asdict(model), None if model.kind == "decoder" else 2)
    width = 4 if model.dtype == "float32" else 2
    return Download("model", model.hub_id or model.name, count * width, HUB, model.gated)


def _data(name: str, settings: Mapping[str, Any], folder: Path | None) -> Download | None:
    from ..models.cache import is_complete
    from ..models.packages import PACKAGES, package_folder

    if settings.get("generated") or _local(settings.get("folder"), folder, name):
        return None
    package = settings.get("package") or ("vaderSentiment" if settings.get("family") == "reviews" else None)
    if package:
        here = package not in PACKAGES or is_complete(package_folder(package))
        return None if here else Download("data", name, PACKAGES[package].size, INDEX)
    megabytes = table()[name].megabytes if name in table() else 10
    return Download("data", name, int(megabytes * 10**6), HUB)


def _local(wanted: Any, folder: Path | None, name: str = "") -> bool:
    """Whether the data folder has this data set's folder, also below the name of its family (glue/CoLA)."""
    if folder is None or not wanted:
        return False
    places = [folder / str(wanted)] + ([folder / name.partition("/")[0] / str(wanted)] if "/" in name else [])
    return any(place.is_dir() for place in places)
