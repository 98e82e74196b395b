"""Which sandbox this machine can offer: each is tried on two small programs before it is trusted."""

from __future__ import annotations

from functools import cache

from ...errors import ConfigError, unknown
from .base import Sandbox
from .bubblewrap import Bubblewrap
from .container import Docker, Podman
from .limits import Limits
from .result import Program, SandboxError
from .rlimit import Rlimit
from .unshare import Unshare

SANDBOXES: dict[str, Sandbox] = {s.name: s for s in (Bubblewrap(), Unshare(), Docker(), Podman(), Rlimit())}
AUTO = ("bubblewrap", "unshare")
"""tried in this order; the weaker and the slower ones must be asked for by name"""
CHOICES = ("auto", *SANDBOXES)
RIGHT = Program("import math\ndef f(x):\n    return math.floor(x) + 1", ["f"], ["assert f(1.5) == 2"])
WRONG = Program("def f(x):\n    return x", ["f"], ["assert f(1) == 2"])


def choose(name: str = "auto") -> Sandbox:
    """The sandbox of that name, known to work here; ConfigError with the reason otherwise."""
    if name not in CHOICES:
        raise ConfigError(unknown("evaluator.sandbox", name, CHOICES))
    reasons = {}
    for option in AUTO if name == "auto" else (name,):
        reason = problem(option)
        if reason is None:
            return SANDBOXES[option]
        reasons[option] = reason
    said = "; ".join(f"{option}: {reason}" for option, reason in reasons.items())
    raise ConfigError(
        f"evaluator.sandbox={name}: generated code can't be run safely here ({said}). Ways on: install bubblewrap; "
        "allow user namespaces; evaluator.sandbox=docker or podman; or, weaker, evaluator.sandbox=rlimit"
    )


@cache
def problem(name: str) -> str | None:
    """Why that sandbox can't be used here; None if a right program passes in it and a wrong one fails."""
    sandbox = SANDBOXES[name]
    missing = sandbox.missing()
    if missing:
        return missing
    try:
        right, wrong = (sandbox.run(program, Limits()) for program in (RIGHT, WRONG))
    except (SandboxError, OSError) as error:
        return str(error)
    if not right.passed or wrong.kind != "AssertionError":
        return f"its verdicts on two test programs are wrong ({right.kind or 'passed'}, {wrong.kind or 'passed'})"
    return None
