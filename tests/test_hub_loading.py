"""Models from the hub's cache and from a hub on this machine."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from small_models import COMMIT, Hub, Pretrained, small

from kasa_corda.errors import DataError
from kasa_corda.models.loading import load_model

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_bert):
    return Pretrained(tmp_path_factory.mktemp("pretrained"), tiny_bert)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub" / "models--org--tiny"


def put_snapshot(repository: Path, source: Path, reference: str = "main") -> Path:
    snapshot = repository / "snapshots" / COMMIT
    shutil.copytree(source, snapshot)
    (repository / "refs" / reference).parent.mkdir(parents=True)
    (repository / "refs" / reference).write_text(COMMIT)
    return snapshot


@pytest.mark.parametrize("reference", ["main", "refs/pr/7"])
def test_the_hubs_cache_is_used_without_a_network(hub_cache, folders, reference):
    put_snapshot(hub_cache, folders("bert"), reference)
    loaded = load_model(small("bert", hub_id="org/tiny"), 2, "classification")
    assert loaded.source == f"hub cache org/tiny at {COMMIT[:12]}"


def test_a_half_downloaded_snapshot_is_not_used(hub_cache, folders):
    snapshot = put_snapshot(hub_cache, folders("bert"))
    (snapshot / "model.safetensors").rename(snapshot / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(DataError) as error:
        load_model(small("bert", hub_id="org/tiny"), 2, "classification")
    for text in ("HF_HUB_OFFLINE", "connect to the hub", "model.path=DIR", "model=minilm"):
        assert text in str(error.value)


def load_in_a_process(endpoint: str, home: Path, **changes) -> str:
    """What a fresh process says that is online, with its hub at ``endpoint``: 'source head' or the error."""
    code = (
        "import sys, json\nfrom kasa_corda.errors import KasaCordaError\n"
        "from kasa_corda.models.loading import load_model\n"
        "try:\n m = load_model(json.loads(sys.argv[1]), 2, 'classification'); print(m.source, m.head)\n"
        "except KasaCordaError as error:\n print(type(error).__name__, error)"
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("HF_HUB_OFFLINE", "HF_TOKEN")}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", code, json.dumps(small("bert", **changes))]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def hub(folders):
    handler = type("TestHub", (Hub,), {"folder": folders("bert")})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", handler
    server.shutdown()


@pytest.mark.parametrize("repository", ["org/tiny", "org/pickled"])
def test_the_hub_is_asked_once_and_then_its_cache(hub, tmp_path, repository):
    said = [load_in_a_process(hub[0], tmp_path, hub_id=repository) for _ in range(2)]
    assert said == [f"{source} {repository} at {COMMIT[:12]} ['classifier']" for source in ("hub", "hub cache")]


def test_a_gated_model_says_how_to_get_in(hub, tmp_path):
    hub[1].gated = True
    said = load_in_a_process(hub[0], tmp_path, hub_id="org/tiny")
    assert said.startswith("DataError model=small can't be loaded: org/tiny is gated: accept its licence at")


def test_a_hub_that_never_answers_costs_seconds(tmp_path):
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen()
        began = time.monotonic()
        said = load_in_a_process(f"http://127.0.0.1:{hole.getsockname()[1]}", tmp_path, hub_id="org/tiny")
    assert "can't be reached (no answer in time)" in said
    assert time.monotonic() - began < 20
