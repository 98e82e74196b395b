"""The model card beside every saved adapter: result, settings, command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from .escaping import fenced, markdown_text
from .evaluation.units import factor
from .privacy import public_text
from .store import write_atomically


def write_card(folder: Path, result: dict[str, Any], config: dict[str, Any]) -> None:
    """README.md in ``folder``, with the front matter the hub reads."""
    base = config["model"]["hub_id"] or config["model"]["name"]
    front = {"base_model": base, "library_name": "peft", "tags": ["kasa_corda", result["method"], result["task"]]}
    scores = "\n".join(
        f"| {markdown_text(name)} | "
        + " | ".join(f"{factor(name) * result[w]['test'][name]:.2f}" for w in ("best", "last"))
        + " |"
        for name in result["best"]["test"]
    )
    chosen = (
        "The best epoch was chosen on examples held out from training."
        if result["selection"] == "held_out"
        else "The best epoch was chosen on the evaluation set itself, as the papers do: an optimistic score."
    )
    approximation = config["model"]["approximation"]
    text = f"""---
{yaml.safe_dump(front, sort_keys=False).strip()}
---
# {markdown_text(f"{result['label']} on {result['task']} ({result['model']})")}

{result["parameters"]["trainable"]:,} of {result["parameters"]["total"]:,} parameters were trained. {chosen}
{markdown_text(f"The base weights are an approximation: {approximation}") if approximation else ""}

| metric (x 100) | best epoch | last epoch |
|---|---:|---:|
{scores or "| not evaluated on the test set | - | - |"}

Seed {result["seed"]}, data from {markdown_text(result["data"]["source"])}, run {result["run_id"]}.

{fenced(result["provenance"]["command"])}

<details><summary>Settings</summary>

{fenced(yaml.safe_dump(config, sort_keys=False).strip(), "yaml")}
</details>
"""
    write_atomically(folder / "README.md", public_text(text))
