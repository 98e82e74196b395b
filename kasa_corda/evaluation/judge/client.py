"""Chat completions of an OpenAI-compatible endpoint over the standard library: retries, pauses, one-line errors."""

from __future__ import annotations

import email.utils
import http.client
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...errors import ConfigError, KasaCordaError, unknown
from .settings import PREFIX, JudgeConfig, api_key

PROBE_SECONDS = 5.0
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
LONGEST_WAIT = 900.0
"""an endpoint that asks to wait longer than this is given up"""
GREETING = [{"role": "user", "content": "Answer with the word yes."}]
GREETING_TOKENS = 16
LARGEST_REPLY = 16 * 2**20
RETRIED = {408, 409, 425, 429}
"""beside all 5xx"""
SPENT = ("insufficient_quota", "billing_hard_limit_reached")
"""codes of a 429 that no waiting helps"""


class JudgeError(KasaCordaError):
    """The judge could not be asked; verdicts that came before are kept."""


class Stopped(JudgeError):
    """Not asked, because another request failed."""


@dataclass(frozen=True)
class Reply:
    """One completion, and the tokens that the endpoint counted (0 if it did not say)."""

    text: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class _Answer:
    """What came back over HTTP."""

    status: int
    headers: Any
    body: bytes

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class Client:
    """Asks one judge. Safe to share between threads."""

    def __init__(self, settings: JudgeConfig, sleep: Callable[[float], object] | None = None) -> None:
        assert settings.base_url is not None
        self.settings = settings
        self.address = settings.base_url.rstrip("/")
        self.stopped = threading.Event()
        """set to end all waiting"""
        self.sleep = sleep or self.stopped.wait
        self._key = api_key(settings)
        self._limit = "max_tokens"
        # a redirect would carry the key to another host
        self._opener = urllib.request.build_opener(_NoRedirects)

    def probe(self) -> None:
        """ConfigError within seconds if the endpoint is out of reach, refuses the key or lacks the model.

        Asks for the list of models, and where there is none for a completion of a few tokens.
        """
        where = f"{PREFIX}base_url={self.settings.base_url}"
        try:
            answer = self._send("/models", None, PROBE_SECONDS)
        except (OSError, http.client.HTTPException) as error:
            raise ConfigError(f"{where} can't be reached: {self._safe(_reason(error))}") from None
        names = _model_names(answer.json()) if answer.status == 200 else []
        if self.settings.model in names:
            return
        if names:
            raise ConfigError(unknown(f"{PREFIX}model", self.settings.model, names))
        if answer.status not in (401, 403):
            try:
                answer = self._asked(GREETING, GREETING_TOKENS, PROBE_SECONDS)
            except (OSError, http.client.HTTPException):
                return  # it is there, and slow
        if answer.status in (401, 403):
            raise ConfigError(f"{where} refuses {self._credentials()} ({self._complaint(answer)})")
        if answer.status != 429 and (answer.status != 200 or _reply(answer.json()) is None):
            raise ConfigError(
                f"{where} can't judge with {PREFIX}model={self.settings.model}: {self._complaint(answer)}"
            )

    def complete(self, messages: list[dict[str, str]]) -> Reply:
        """One completion. Waits and asks again after 429, 5xx, timeouts and broken connections; else JudgeError."""
        problem, wanted = "", 0.0
        for attempt in range(self.settings.retries + 1):
            if attempt:
                self.sleep(max(wanted, _growing_pause(attempt)))
            if self.stopped.is_set():
                raise Stopped("judging was stopped")
            try:
                answer = self._asked(messages, self.settings.max_tokens, self.settings.timeout)
            except (OSError, http.client.HTTPException) as error:
                problem, wanted = self._safe(_reason(error)), 0.0
                continue
            if answer.status == 200 and (reply := _reply(answer.json())) is not None:
                return reply
            problem, wanted = self._complaint(answer), retry_after(answer.headers)
            passing = answer.status == 200 or answer.status >= 500 or answer.status in RETRIED
            if not passing or any(code.encode() in answer.body for code in SPENT):
                break
            if wanted > LONGEST_WAIT:
                problem += f", and asks to wait for {wanted:,.0f} seconds"
                break
        raise JudgeError(f"the judge {self.settings.model} at {self.address} gives no verdict: {problem}")

    def _asked(self, messages: list[dict[str, str]], tokens: int, timeout: float) -> _Answer:
        """The answer to one request; newer models want the limit under another name, which is then kept."""
        limit = self._limit
        answer = self._send("/chat/completions", self._request(messages, limit, tokens), timeout)
        if answer.status == 400 and limit == "max_tokens" and b"max_completion_tokens" in answer.body:
            self._limit = "max_completion_tokens"
            answer = self._send("/chat/completions", self._request(messages, self._limit, tokens), timeout)
        return answer

    def _request(self, messages: list[dict[str, str]], limit: str, tokens: int) -> dict[str, Any]:
        settings = self.settings
        request = {"model": settings.model, "messages": messages, limit: tokens}
        return request if settings.temperature is None else {**request, "temperature": settings.temperature}

    def _send(self, path: str, content: dict[str, Any] | None, timeout: float) -> _Answer:
        headers = {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": "kasa_corda"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self.address + path, body, headers)
        try:
            with self._opener.open(request, timeout=timeout) as response:
                return _Answer(response.status, response.headers, response.read(LARGEST_REPLY))
        except urllib.error.HTTPError as error:
            with error:
                return _Answer(error.code, error.headers, error.read(LARGEST_REPLY))

    def _complaint(self, answer: _Answer) -> str:
        """'status 401: Incorrect API key', with the endpoint's own words where it has some."""
        found = answer.json()
        error = found.get("error", found) if isinstance(found, dict) else None
        words = error.get("message") if isinstance(error, dict) else error
        if answer.status == 200 and not words:
            words = "not a chat completion"
        # without the key before it is cut: half a key would not be found
        return f"status {answer.status}" + (f": {self._safe(' '.join(str(words).split()))[:200]}" if words else "")

    def _credentials(self) -> str:
        name = self.settings.api_key_env
        return f"the key in {name}" if name else f"a request without a key; name its variable in {PREFIX}api_key_env"

    def _safe(self, text: str) -> str:
        return text.replace(self._key, "(the key)") if self._key else text


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _growing_pause(attempt: int) -> float:
    """Seconds before attempt ``attempt`` (from 1): doubled each time, spread by chance."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1)) * random.uniform(0.75, 1.25)


def _model_names(listed: Any) -> list[str]:
    models = listed.get("data") if isinstance(listed, dict) else None
    return [str(m["id"]) for m in models if isinstance(m, dict) and "id" in m] if isinstance(models, list) else []


def retry_after(headers: Any) -> float:
    """Seconds that a Retry-After header asks for, given as seconds or as a date; 0 without one."""
    value = (headers.get("Retry-After") or "").strip() if headers else ""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, IndexError):
        return 0.0


def _reply(found: Any) -> Reply | None:
    """The text of a completion; None if the answer has none of that shape."""
    try:
        text = found["choices"][0]["message"]["content"]
        usage = found.get("usage") or {}
        counted = [int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None
    # null: the model spent its tokens on reasoning, or refused
    return Reply(text or "", *counted) if text is None or isinstance(text, str) else None


def _reason(error: Exception) -> str:
    """A short cause: 'connection refused', 'timed out'."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return "timed out"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    return str(cause) or type(cause).__name__
