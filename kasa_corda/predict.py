"""``python -m kasa_corda.predict RUN_DIR --text "..."``: use a trained adapter (texts, a file, or standard input)."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from .errors import DataError, KasaCordaError
from .escaping import printable


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m kasa_corda.predict", description=__doc__)
    parser.add_argument("run", help="run directory: runs/TASK/MODEL/METHOD/RUN_ID")
    parser.add_argument(
        "--text",
        action="append",
        help="a text to classify, or a question (repeat for more); tab between two texts of a pair",
    )
    parser.add_argument(
        "--file", type=Path, help="one text per line; without --text and --file, standard input is read"
    )
    chosen = parser.parse_args(arguments)
    try:
        texts = read_texts(chosen.text, chosen.file)
        from .trained import load_run

        for text, answer in zip(texts, load_run(chosen.run).predict(texts), strict=True):
            print(printable(json.dumps({"text": text, **answer}, ensure_ascii=False)))
    except KasaCordaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def read_texts(texts: list[str] | None, file: Path | None) -> list[str]:
    """Texts from the options or standard input; empty lines are left out."""
    lines = list(texts or [])
    try:
        if file is not None:
            lines += file.read_text(encoding="utf-8").splitlines()
        elif not lines:
            lines = sys.stdin.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file or 'standard input'} can't be read as UTF-8 text: {error}") from None
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise DataError("no text given; use --text, --file or standard input")
    return lines


if __name__ == "__main__":
    sys.exit(main())
