"""What no file that may be handed on holds: keys and tokens, and the path of the home folder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

HIDDEN = "(hidden)"
SHORTEST = 8
"""characters of a value in the environment that may be a key; shorter ones are switches"""
_NAMES = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD)$", re.IGNORECASE)
"""environment variables that hold one (HF_TOKEN, OPENAI_API_KEY, WANDB_API_KEY)"""
_GIVEN = re.compile(r"((?:api_?key|access_key|token|secret|password|passwd)=)[^\s'\"]+", re.IGNORECASE)
_LOGIN = re.compile(r"://[^\s/@:]*:[^\s/@]*@")

known_secrets: set[str] = set()
"""keys read from variables of other names (judge.api_key_env)"""


def public(value: Any) -> Any:
    """The value with every text in it fit to be handed on; dictionaries and lists are copied."""
    if isinstance(value, dict):
        return {key: public(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [public(one) for one in value]
    return public_text(value) if isinstance(value, str) else value


def public_text(text: str) -> str:
    """Keys and passwords hidden, ``~`` for the home folder."""
    for secret in secrets():
        text = text.replace(secret, HIDDEN)
    text = _LOGIN.sub("://", text)
    home = home_folder()
    return re.sub(rf"(?<![\w.~-]){re.escape(home)}(?![\w.-])", "~", text) if home else text


def public_command(line: str) -> str:
    """A command line without the values of keys such as ``...API_KEY=``."""
    return public_text(_GIVEN.sub(rf"\1{HIDDEN}", line))


def from_home(value: Any) -> Any:
    """The inverse for the paths of a stored config: ``~/data`` is in the home folder of who reads it."""
    if isinstance(value, dict):
        return {key: from_home(one) for key, one in value.items()}
    if isinstance(value, list):
        return [from_home(one) for one in value]
    return str(Path(value).expanduser()) if isinstance(value, str) and value.startswith("~/") else value


def secrets() -> list[str]:
    """Longest first, so that none is left in part."""
    found = {value for name, value in os.environ.items() if _NAMES.search(name) and len(value.strip()) >= SHORTEST}
    return sorted({value.strip() for value in found} | known_secrets, key=len, reverse=True)


def home_folder() -> str | None:
    """None where every path begins with it."""
    home = os.path.expanduser("~").rstrip("/")  # noqa: PTH111
    return home if home.startswith("/") else None
