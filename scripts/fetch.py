"""Fetch models and data ahead of time.

python scripts/fetch.py                          everything that comes from the package index
python scripts/fetch.py minilm reviews           only these
python scripts/fetch.py roberta_base             a model from the hub
python scripts/fetch.py --list                   what there is and where it lies
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from kasa_corda.errors import ConfigError, KasaCordaError, unknown
from kasa_corda.models.cache import cache_dir, is_complete
from kasa_corda.models.packages import PACKAGES, ensure_package, package_folder

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "model"
DATA = {"reviews": "vaderSentiment"}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a model of configs/model, or reviews")
    parser.add_argument("--list", action="store_true", help="show what can be fetched and what is there already")
    chosen = parser.parse_args(arguments)
    models = read_models()
    if chosen.list:
        print(listing(models))
        return 0
    code = 0
    for name in chosen.names or [*(name for name, model in models.items() if model.get("package")), *DATA]:
        try:
            print("\n".join(f"{key:9} {text}" for key, text in fetch(name, models).items()), end="\n\n", flush=True)
        except KasaCordaError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            code = error.exit_code
    return code


def read_models() -> dict[str, dict[str, Any]]:
    """Model name -> its config, of every model that has a source."""
    configs = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(CONFIGS.glob("*.yaml")))
    return {config["name"]: config for config in configs if config.get("name")}


def fetch(name: str, models: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Fetch one thing and describe it: name, what, from where, size, folder, licence."""
    if name in DATA:
        package = PACKAGES[DATA[name]]
        folder = ensure_package(DATA[name])
        return describe(name, package.holds, f"package {package.project} {package.version}", folder, package.licence)
    if name not in models:
        raise ConfigError(unknown("fetch", name, [*models, *DATA]))
    from kasa_corda.models.sources import locate

    model = models[name]
    located = locate(model)
    if located.source.startswith("package"):
        package = PACKAGES[model["package"]]
        holds, licence = package.holds, package.licence
    else:
        holds, licence = f"{model['architecture']} {model['kind']}", f"see the model card of {model['hub_id']}"
    return describe(name, holds, located.source, located.folder, licence)


def describe(name: str, holds: str, source: str, folder: Path, licence: str) -> dict[str, str]:
    return {
        "name": name,
        "holds": holds,
        "from": source,
        "size": f"{folder_bytes(folder) / 1e6:.1f} MB on disk",
        "lies in": str(folder),
        "licence": licence,
    }


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def listing(models: dict[str, dict[str, Any]]) -> str:
    """One line per model and data set: name, source, whether it is in the cache."""
    rows = []
    for name, package in [*((name, model.get("package")) for name, model in models.items()), *DATA.items()]:
        if package:
            pinned = PACKAGES[package]
            here = "here" if is_complete(package_folder(package)) else f"{pinned.size / 1e6:.0f} MB to fetch"
            rows.append((name, f"package {pinned.project} {pinned.version}", here, pinned.licence))
        else:
            gated = "gated: accept its licence on the hub first" if models[name].get("gated") else ""
            rows.append((name, f"hub {models[name]['hub_id']}", "", gated))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = ["  ".join(map(str.ljust, row, [*widths, 0])).rstrip() for row in rows]
    return "\n".join([*lines, f"cache: {cache_dir()} (KASA_CORDA_CACHE)"])


if __name__ == "__main__":
    sys.exit(main())
