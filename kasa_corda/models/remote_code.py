"""Model code from the hub: only where it is asked for, and only the code of one commit."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DataError

DESCRIPTIONS = ("config.json", "tokenizer_config.json", "processor_config.json")


def check_remote_code(model: Mapping[str, Any]) -> None:
    """ConfigError if a model config allows code from the hub that may be another one tomorrow."""
    if not model.get("trust_remote_code"):
        return
    given = f"model.trust_remote_code=true with model={model.get('name')}"
    if model.get("path"):
        raise ConfigError(f"{given}: the code of a local folder (model.path) can't be pinned; give hub_id and revision")
    if not re.fullmatch("[0-9a-f]{40}", str(model.get("revision") or "")):
        raise ConfigError(
            f"{given}: code from the hub can change at any time; name the commit that you have read,"
            f" model.revision=(40 hex digits), not {model.get('revision')}"
        )


def own_code_only(folder: Path) -> None:
    """DataError if a model asks for code of another repository, which its own revision does not pin."""
    for name in DESCRIPTIONS:
        try:
            described = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        named = json.dumps(described.get("auto_map")) if isinstance(described, dict) else ""
        if "--" in named:
            raise DataError(f"{folder / name} asks for code of another repository ({named}), which no revision pins")
