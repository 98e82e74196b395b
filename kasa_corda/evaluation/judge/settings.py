"""``evaluator.judge.*``: who judges, how, and for how much."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Optional
from urllib.parse import urlsplit

from ...config.schema import option
from ...errors import ConfigError
from ...privacy import known_secrets

PREFIX = "evaluator.judge."
REFERENCE = "reference"


@dataclass
class JudgeConfig:
    """The judge. The key itself is only ever read from the environment, and never stored."""

    base_url: Optional[str] = option(
        None, "OpenAI-compatible endpoint, e.g. http://localhost:8000/v1; null: answers are written, not judged"
    )
    model: Optional[str] = option(None, "the judge's name at that endpoint")
    mode: str = option(
        "single",
        "single: each answer is rated from 1 to 10; pairwise: compared with another answer, in both orders",
        choices=("single", "pairwise"),
    )
    against: Optional[str] = option(
        None, "pairwise: whose answers are compared with: a run directory, or reference (the data set's own)"
    )
    api_key_env: Optional[str] = option(None, "name of the environment variable that holds the key; null sends none")
    temperature: Optional[float] = option(0.0, "sampling of the verdicts; null leaves it to the endpoint", at_least=0)
    max_tokens: int = option(1024, "longest verdict in tokens", at_least=16)
    price_in: Optional[float] = option(None, "US dollars per million prompt tokens, for the estimate", at_least=0)
    price_out: Optional[float] = option(None, "US dollars per million tokens of verdicts", at_least=0)
    max_cost: Optional[float] = option(None, "refuse to start above this estimate, in US dollars", at_least=0)
    workers: int = option(4, "requests under way at once", at_least=1)
    retries: int = option(6, "further attempts after 429, 5xx and timeouts, with growing pauses", at_least=0)
    timeout: float = option(120.0, "seconds to wait for one verdict", above=0)


def check(settings: JudgeConfig) -> None:
    """ConfigError for settings that contradict each other; looks at nothing outside them, and sends nothing."""
    if settings.api_key_env and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", settings.api_key_env):
        # not shown: it may be the key
        raise ConfigError(f"{PREFIX}api_key_env must be the name of an environment variable, not the key itself")
    if not settings.base_url:
        return
    _check_address(settings.base_url)
    if not settings.model:
        raise ConfigError(f"{PREFIX}model is missing; name the judge that {PREFIX}base_url={settings.base_url} has")
    if settings.mode == "pairwise" and not settings.against:
        raise ConfigError(
            f"{PREFIX}mode=pairwise needs {PREFIX}against=RUN_DIR, or {PREFIX}against={REFERENCE} for the answers "
            "of the data set"
        )
    if settings.max_cost is not None and (settings.price_in is None or settings.price_out is None):
        raise ConfigError(f"{PREFIX}max_cost={settings.max_cost} needs {PREFIX}price_in and {PREFIX}price_out")


def api_key(settings: JudgeConfig) -> str | None:
    """The key, from the environment; ConfigError if the named variable is not set."""
    if not settings.api_key_env:
        return None
    key = os.environ.get(settings.api_key_env, "").strip()
    if not key:
        raise ConfigError(f"{PREFIX}api_key_env={settings.api_key_env}: this environment variable is not set")
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise ConfigError(f"{PREFIX}api_key_env={settings.api_key_env}: its value holds spaces or control characters")
    known_secrets.add(key)
    return key


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(f"{PREFIX}base_url is not an address such as http://localhost:8000/v1") from None
    if parts.username or parts.password or parts.query or parts.fragment:
        # not shown: it may hold a key
        raise ConfigError(f"{PREFIX}base_url must hold no user, password or query; keys go into {PREFIX}api_key_env")
    if parts.scheme not in ("http", "https") or not host or re.search(r"\s", url):
        raise ConfigError(f"{PREFIX}base_url={url} is not an address such as http://localhost:8000/v1")
