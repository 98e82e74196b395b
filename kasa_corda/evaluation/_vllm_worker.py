"""Run by the Python that has vLLM, and by nothing of this project: ``python _vllm_worker.py FOLDER``.

FOLDER holds settings.json, prompts.jsonl (ids and seed per line) and model/; texts.jsonl is written there.
"""

import json
import sys
from pathlib import Path
from typing import Any


def main(folder: Path) -> None:
    from vllm import LLM, SamplingParams  # type: ignore[import-not-found]

    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    prompts = [json.loads(line) for line in (folder / "prompts.jsonl").read_text(encoding="utf-8").splitlines()]
    longest = max(len(prompt["ids"]) for prompt in prompts) + settings["max_new_tokens"]
    llm: Any = LLM(model=settings["model"], dtype=settings["dtype"], max_model_len=longest)
    shared = {
        "max_tokens": settings["max_new_tokens"],
        "stop": settings["stop"] or None,
        "stop_token_ids": settings["end_tokens"],
        "skip_special_tokens": True,
        "spaces_between_special_tokens": False,
    }
    if settings["temperature"] is None:
        parameters = [SamplingParams(temperature=0.0, **shared) for _ in prompts]
    else:
        drawn = {"temperature": settings["temperature"], "top_p": settings["top_p"]}
        parameters = [SamplingParams(seed=prompt["seed"], **drawn, **shared) for prompt in prompts]
    outputs = llm.generate([{"prompt_token_ids": prompt["ids"]} for prompt in prompts], parameters)
    with (folder / "texts.jsonl").open("w", encoding="utf-8") as file:
        for output in outputs:
            best = output.outputs[0]
            file.write(json.dumps({"text": best.text, "tokens": len(best.token_ids)}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
