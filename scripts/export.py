"""Merge a trained adapter into a plain checkpoint: python scripts/export.py RUN_DIR --out DIR"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from kasa_corda.errors import KasaCordaError
from kasa_corda.store import replace_directory


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="run directory: runs/TASK/MODEL/METHOD/RUN_ID")
    parser.add_argument("--out", type=Path, required=True, help="folder for the merged model and tokenizer")
    parser.add_argument("--force", action="store_true", help="replace the folder if it exists")
    chosen = parser.parse_args(arguments)
    try:
        export(chosen.run, chosen.out, force=chosen.force)
    except KasaCordaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def export(run: str, out: Path, *, force: bool) -> None:
    """Write the merged model, tokenizer and model card to ``out``; it loads with plain transformers."""
    if out.exists() and not force:
        raise KasaCordaError(f"--out {out} exists; choose another folder or add --force")
    from kasa_corda.trained import load_run

    trained = load_run(run)
    merged = trained.method.merge(trained.model)
    building = out.with_name(f".{out.name}.new")
    merged.save_pretrained(building)
    trained.tokenizer.save_pretrained(building)
    shutil.copy(Path(run) / "adapter" / "README.md", building / "README.md")
    replace_directory(building, out)
    print(f"merged model: {out}")


if __name__ == "__main__":
    sys.exit(main())
