"""Small pretrained models of every architecture, as folders, and as much of a model hub as a download needs."""

from __future__ import annotations

import hashlib
import http.server
import json
import shutil
from pathlib import Path

COMMIT = "a" * 40
SIZES = {"layers": 2, "hidden_size": 32, "intermediate_size": 48, "heads": 4}
ENCODERS = ["bert", "roberta", "deberta-v2"]
ARCHITECTURES = [*ENCODERS, "gpt2", "llama", "mistral", "gemma", "qwen2"]


def small(architecture: str, **changes) -> dict:
    return {"name": "small", "architecture": architecture, "vocab_size": 20, "max_positions": 64, **SIZES, **changes}


class Pretrained:
    """``pretrained(architecture)`` is a folder with a small base model and a tokenizer, made on demand."""

    def __init__(self, root: Path, tokenizer: Path) -> None:
        self.root, self.tokenizer = root, tokenizer

    def __call__(self, architecture: str) -> Path:
        folder = self.root / architecture
        if not folder.exists():
            self.make(architecture, folder)
        return folder

    def make(self, architecture: str, folder: Path) -> None:
        import torch
        from transformers import AutoModel, AutoModelForCausalLM

        from kasa_corda.models.empty import transformers_config

        config = transformers_config(small(architecture))
        config.pad_token_id = 0
        torch.manual_seed(1)
        factory = AutoModel if architecture in ENCODERS else AutoModelForCausalLM
        factory.from_config(config).save_pretrained(folder)
        for file in self.tokenizer.glob("*tok*.json"):
            shutil.copy(file, folder)


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as a download needs. The repository org/pickled has its weights in a pull request."""

    folder: Path
    refuses = ""
    """an error code that every request is answered with"""
    only_pickled = False

    def log_message(self, *_) -> None: ...

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_GET(self, body: bool = True) -> None:
        path = self.path.partition("?")[0]
        converted = "refs%2Fpr%2F3" in path or COMMIT in path
        pickled = self.only_pickled or ("org/pickled" in path and not converted)
        names = [file.name for file in self.folder.iterdir() if not (pickled and file.suffix == ".safetensors")]
        if self.refuses:
            status = 403 if self.refuses == "GatedRepo" else 404
            return self.reply(status, b"", {"X-Error-Code": self.refuses}, body)
        if path.endswith("/discussions"):
            offers = [] if self.only_pickled else [self.offer(2, "somebody"), self.offer(3, "SFconvertbot")]
            return self.reply(200, {"discussions": offers, "count": len(offers), "start": 0}, {}, body)
        if "/tree/" in path:
            files = [{"type": "file", "path": n, "size": self.size(n), "oid": self.etag(n)} for n in names]
            return self.reply(200, files, {}, body)
        if path.startswith("/api/models/org/"):
            siblings = [{"rfilename": name} for name in names]
            return self.reply(200, {"id": "org", "sha": COMMIT, "siblings": siblings}, {}, body)
        name = path.rpartition("/")[2]
        if "/resolve/" not in path or name not in names:
            return self.reply(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{self.etag(name)}"'}
        return self.reply(200, (self.folder / name).read_bytes(), headers, body)

    def offer(self, number: int, author: str) -> dict:
        return {
            "num": number,
            "author": {"name": author},
            "repo": {"name": "org/pickled", "type": "model"},
            "title": "Adding `safetensors` variant of this model",
            "status": "open",
            "isPullRequest": True,
            "createdAt": "2024-01-01T00:00:00.000Z",
        }

    def size(self, name: str) -> int:
        return (self.folder / name).stat().st_size

    def etag(self, name: str) -> str:
        return hashlib.sha1((self.folder / name).read_bytes()).hexdigest()

    def reply(self, status: int, content, headers: dict, body: bool) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data)
