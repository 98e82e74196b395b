"""Hand a trained run on: python scripts/export.py RUN_DIR --out DIR [--form merged|lora]

merged: a plain transformers checkpoint. lora: an ordinary PEFT LoRA for the untouched base model.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from kasa_corda.errors import KasaCordaError
from kasa_corda.store import replace_directory


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run directory: runs/TASK/MODEL/METHOD/RUN_ID")
    parser.add_argument("--out", type=Path, required=True, help="folder for the exported model")
    parser.add_argument("--form", choices=("merged", "lora"), default="merged", help="what to write (default: merged)")
    parser.add_argument("--force", action="store_true", help="replace the folder if it exists")
    chosen = parser.parse_args(arguments)
    try:
        export(chosen.run, chosen.out, form=chosen.form, force=chosen.force)
    except KasaCordaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def export(run: str, out: Path, *, form: str, force: bool) -> None:
    """Write the model, its tokenizer and its card to ``out``; nothing of ours is needed to load them."""
    if out.exists() and not force:
        raise KasaCordaError(f"--out {out} exists; choose another folder or add --force")
    from kasa_corda.pipeline import base_name
    from kasa_corda.trained import load_run

    trained = load_run(run)
    building = out.with_name(f".{out.name}.new")
    shutil.rmtree(building, ignore_errors=True)
    if form == "lora":
        trained.method.save_as_lora(trained.model, building, base_name(trained.config))
    else:
        trained.method.merge(trained.model).save_pretrained(building)
    trained.tokenizer.save_pretrained(building)
    shutil.copy(Path(run) / "adapter" / "README.md", building / "README.md")
    replace_directory(building, out)
    print(f"{form} model: {out}")


if __name__ == "__main__":
    sys.exit(main())
