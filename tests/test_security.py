"""What strangers hand over (models, adapters, data, archives, runs) runs no code, leaves no folder, spoils no page."""

from __future__ import annotations

import ast
import csv
import gzip
import io
import json
import os
import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, compose
from synthetic_runs import make_run

from kasa_corda.cli import complain
from kasa_corda.errors import ConfigError, DataError, KasaCordaError
from kasa_corda.escaping import csv_cell, fenced, markdown_text, printable
from kasa_corda.merge import merge
from kasa_corda.models import download, packages
from kasa_corda.models.fingerprint import weight_files
from kasa_corda.models.index import Found, Settings, Unreachable
from kasa_corda.models.remote_code import check_remote_code, own_code_only
from kasa_corda.privacy import from_home, public, public_command
from kasa_corda.report import build_report, write_report
from kasa_corda.report.records import read_run
from kasa_corda.store import RunDirectory, below, follow_umask, replace_directory, write_atomically
from kasa_corda.tasks import _files

COMMIT = "0123456789abcdef" * 2 + "01234567"
ESCAPE = "\x1b[2Jgone\x9b31m\u202e"


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture
def pickled(tiny_bert: Path, tmp_path: Path) -> Path:
    """The tiny model with its weights as pytorch_model.bin alone."""
    import torch
    from safetensors.torch import load_file

    folder = Path(shutil.copytree(tiny_bert, tmp_path / "pickled"))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def settings(folder: Path, **changes) -> dict:
    from kasa_corda.models.local import complete

    asked = compose("model=local", f"model.path={folder}")["model"] | changes
    return complete(asked)


class TestModels:
    def test_pickled_weights_are_refused_unless_they_are_allowed(self, pickled, tiny_bert):
        from kasa_corda.models.loading import load_model

        with pytest.raises(ConfigError, match=r"only pickled weights.*model\.allow_pickle=true"):
            settings(pickled)
        ours = load_model(settings(pickled, allow_pickle=True), 2, "classification").model.state_dict()
        same = load_model(settings(tiny_bert), 2, "classification").model.state_dict()
        assert all(ours[name].equal(same[name]) for name in same if "bert" in name)

    def test_allowed_pickles_still_run_no_code(self, pickled, tmp_path):
        from kasa_corda.models.loading import load_model

        asked, marker = settings(pickled, allow_pickle=True), tmp_path / "ran"
        (pickled / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Bomb(marker)}, protocol=2))
        with pytest.raises(DataError, match="can't be loaded"):
            load_model(asked, 2, "classification")
        assert not marker.exists()

    @pytest.mark.parametrize("name", ["part.bin", "../other.safetensors"])
    def test_an_index_can_name_nothing_but_safetensors_beside_it(self, tiny_bert, tmp_path, name):
        folder = Path(shutil.copytree(tiny_bert, tmp_path / "sharded"))
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(DataError, match=r"weights are \*\.safetensors beside it"):
            weight_files(folder)

    def test_allowing_pickles_is_part_of_the_run_id_only_where_it_is_asked_for(self, tiny_bert):
        from kasa_corda.config import run_id

        config = compose("model=local", f"model.path={tiny_bert}")
        before = {**config, "model": {k: v for k, v in config["model"].items() if k != "allow_pickle"}}
        allowed = {**config, "model": config["model"] | {"allow_pickle": True}}
        assert run_id(config) == run_id(before) != run_id(allowed)

    def test_code_in_a_model_folder_never_runs(self, tiny_bert, tmp_path):
        from kasa_corda.models.loading import load_model

        folder, marker = Path(shutil.copytree(tiny_bert, tmp_path / "coded")), tmp_path / "ran"
        (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\n")
        for file, classes in (
            ("config.json", {"AutoConfig": "evil.C", "AutoModelForSequenceClassification": "evil.M"}),
            ("tokenizer_config.json", {"AutoTokenizer": ["evil.T", None]}),
        ):
            described = json.loads((folder / file).read_text())
            (folder / file).write_text(json.dumps(described | {"auto_map": classes}))
        load_model(settings(folder), 2, "classification")
        assert not marker.exists()

    @pytest.mark.parametrize(
        "model",
        [{"hub_id": "a/b"}, {"hub_id": "a/b", "revision": "main"}, {"path": "folder", "revision": COMMIT}],
    )
    def test_code_from_the_hub_needs_a_pinned_commit(self, model):
        from kasa_corda.models.sources import locate

        with pytest.raises(ConfigError, match="trust_remote_code"):
            locate({**model, "trust_remote_code": True})
        check_remote_code({"hub_id": "a/b", "revision": COMMIT, "trust_remote_code": True})

    def test_an_unpinned_commit_is_said_before_anything_is_loaded(self, tmp_path):
        from kasa_corda.launch import prepare

        with pytest.raises(ConfigError, match=r"model\.revision=\(40 hex digits\)"):
            prepare(compose("model.trust_remote_code=true", f"run_root={tmp_path}"))

    def test_pinned_code_can_not_come_from_another_repository(self, tmp_path):
        (tmp_path / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "other/repo--m.Model"}}))
        with pytest.raises(DataError, match="another repository"):
            own_code_only(tmp_path)

    @pytest.mark.parametrize(
        "described",
        [
            {"peft_type": "XLORA", "adapters": {"0": "somebody/else"}},
            {"peft_type": "MULTITASK_PROMPT_TUNING", "prompt_tuning_init_state_dict_path": "/tmp/x.bin"},
        ],
    )
    def test_an_adapter_that_leads_to_other_files_is_not_loaded(self, tmp_path, described):
        from torch import nn

        from kasa_corda.methods.untrained import load_stored

        (tmp_path / "adapter_config.json").write_text(json.dumps(described))
        (tmp_path / "adapter_model.safetensors").write_bytes(b"")
        with pytest.raises(DataError, match="outside it: not loaded"):
            load_stored(nn.Linear(1, 1), tmp_path)


class TestArchives:
    def test_members_keep_to_their_folder_and_links_are_no_members(self, tmp_path):
        inner = io.BytesIO()
        with tarfile.open(fileobj=inner, mode="w:gz") as tar:
            link = tarfile.TarInfo("data.txt")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("../../out.txt", "out")
            archive.writestr("good.txt", "good")
            archive.writestr("inner.tar.gz", inner.getvalue())
        folder = tmp_path / "deep" / "folder"
        folder.mkdir(parents=True)
        packages.unpack(tmp_path / "a.zip", {"good.txt": "good.txt"}, folder)
        assert [path.name for path in folder.iterdir()] == ["good.txt"] and not list(tmp_path.rglob("out.txt"))
        with pytest.raises(DataError, match="does not hold what it should"):
            packages.unpack(tmp_path / "a.zip", {"inner.tar.gz!/data.txt": "data.txt"}, folder)

    def test_a_bomb_stops_at_the_limit(self, tmp_path, monkeypatch):
        monkeypatch.setattr(packages, "MOST_UNPACKED", 1000)
        monkeypatch.setattr(_files, "MOST_UNPACKED", 1000)
        with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("zeros", b"0" * 10**6)
        with pytest.raises(DataError, match="unpacks to more than"):
            packages.unpack(tmp_path / "a.zip", {"zeros": "zeros"}, tmp_path)
        (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(b"0" * 10**6))
        with pytest.raises(DataError, match="unpacks to more than"):
            _files.read_file(tmp_path / "rows.jsonl.gz")

    def test_a_download_without_end_stops_at_the_pinned_size(self, tmp_path, monkeypatch):
        class Endless(io.RawIOBase):
            headers = {"Content-Length": str(10**15)}
            given = 0

            def read(self, count: int = -1) -> bytes:
                self.given += count
                assert self.given < 10**8
                return b"0" * count

        monkeypatch.setattr(download, "_opened", lambda _: Endless())
        found = Found("https://index/file", Settings((), ()))
        with (
            pytest.raises(Unreachable, match="not the pinned file"),
            download.downloaded(found, tmp_path / "f.part", "0" * 64, 5 * 10**6),
        ):
            pass
        assert not list(tmp_path.iterdir())


class TestNames:
    @pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc", "a//b", "", "a\nb", "a\\..\\b", "..", "a/"])
    def test_a_name_can_not_leave_its_folder(self, tmp_path, name):
        config = {"run_root": str(tmp_path), "task": {"name": name}, "model": {"name": "m"}, "method": {"name": "x"}}
        with pytest.raises(ConfigError, match="can't be a path below"):
            RunDirectory.of(config, "0123456789ab")
        with pytest.raises(ConfigError):
            RunDirectory(tmp_path).write_predictions(f"{name}/x" if name in ("..", "a/") else name or "/", [])
        assert below(tmp_path, "glue/sst2", "minilm") == tmp_path / "glue" / "sst2" / "minilm"

    @pytest.mark.parametrize(
        "override",
        ["task.name=../../out", "model.name=/out", "task.folder=../other", "task.files={train: /etc/passwd}"],
    )
    def test_the_command_line_is_told(self, override, tmp_path):
        from kasa_corda.launch import prepare

        config = compose("task=glue/sst2", f"run_root={tmp_path}", override)
        with pytest.raises(ConfigError, match=r"can't name a folder of run_root|leads out of data_dir"):
            prepare(config)

    def test_merging_leaves_links_out(self, tmp_path):
        (tmp_path / "secret").write_text("private")
        run = RunDirectory(tmp_path / "theirs" / "t" / "m" / "x" / "0123456789ab")
        run.write_config({"seed": 0})
        run.write_status("interrupted")
        (run.path / "notes.txt").symlink_to(tmp_path / "secret")
        merge([tmp_path / "theirs"], tmp_path / "ours")
        assert [path.name for path in (tmp_path / "ours").rglob("*.*")] and not list(
            (tmp_path / "ours").rglob("notes.txt")
        )

    def test_references_that_multiply_are_damage(self, tmp_path):
        lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60))]
        make_run(tmp_path, 0.5)
        (path,) = (file.parent for file in tmp_path.rglob("config.yaml"))
        groups = (path / "config.yaml").read_text(encoding="utf-8")
        (path / "config.yaml").write_text(groups + "\n" + "\n".join(lines), encoding="utf-8")
        with pytest.raises(KasaCordaError, match="more than 100,000 values"):
            RunDirectory(path).config()
        assert read_run(path).state == "damaged"


def test_no_source_file_uses_a_shell_or_unpickles():
    """Only the guest of the sandbox runs text as code."""
    files = [ROOT / "run.py", *(ROOT / "scripts").glob("*.py"), *(ROOT / "kasa_corda").rglob("*.py")]
    found = []
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name, options = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
                runs = name in ("exec", "eval", "os.system", "os.popen", "torch.load", "pickle.load", "pickle.loads")
                unsafe = name == "yaml.load" and len(node.args) < 2 and "Loader" not in options
                if (runs and "guest" not in file.parts) or unsafe or options.get("shell", "False") != "False":
                    found.append(f"{file}:{node.lineno} {name}")
    assert len(files) > 300 and not found


class TestPages:
    @pytest.fixture
    def report(self, tmp_path):
        label = "=cmd()|<script>alert(1)</script>"
        moment = {"step": 1, "epoch": 1.0, "select": {"accuracy": 0.5}, "test": {"accuracy": 0.5}}
        make_run(tmp_path, method__label=label, result={"best": moment, "last": moment, "notes": [r"\input{/etc/x}"]})
        make_run(tmp_path, method="kasa", state="failed", status={"error": '@SUM(1)"' + ESCAPE})
        write_report(build_report([tmp_path]), tmp_path / "out", ("md", "csv", "latex", "html"))
        return tmp_path / "out"

    def test_no_cell_of_a_csv_file_is_a_formula(self, report):
        for file in report.glob("*.csv"):
            with file.open(newline="", encoding="utf-8") as rows:
                for row in csv.DictReader(rows):
                    cells = [cell for cell in row.values() if not _is_number(cell)]
                    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells), row
        assert "'=cmd()" in (report / "runs.csv").read_text(encoding="utf-8")

    def test_neither_tags_nor_commands_of_a_run_reach_a_page(self, report):
        for name in ("report.md", "report.html"):
            assert "<script>alert" not in (report / name).read_text(encoding="utf-8")
        latex = (report / "report.tex").read_text(encoding="utf-8")
        assert r"\input" not in latex and r"\textbackslash{}input" in latex
        assert not any(sign in file.read_text(encoding="utf-8") for file in report.glob("*.md") for sign in ESCAPE[:1])

    def test_a_table_of_changes_is_as_safe(self):
        from kasa_corda.verdicts import changes_table
        from kasa_corda.verdicts.changes import Change, Comparison

        named = dict.fromkeys(("task", "model", "method", "setting"), "=1|<b>")
        fields = {
            field: named.get(field, () if field == "notes" else (1, 1) if field == "seeds" else "accuracy")
            for field in Change.__dataclass_fields__
        }
        numbers = ("a", "b", "difference", "low", "high", "p", "p_holm", "seconds_ratio", "memory_ratio")
        change = Change(**fields | dict.fromkeys(numbers, 0.5))
        found = Comparison(changes=[change], only_a=[], only_b=[])
        assert "\n'=1|<b>" in changes_table._csv(found)
        assert "<b>" not in changes_table._markdown(found) and "1|" not in changes_table._markdown(found)

    def test_a_model_card_shows_texts_as_texts(self, tmp_path):
        from kasa_corda.card import write_card

        evil = "</details><script>x</script>```\n[l](javascript:1)"
        result = {"label": evil, "task": evil, "model": evil, "method": "lora", "selection": "held_out", "seed": 0}
        result |= {"parameters": {"trainable": 1, "total": 2}, "data": {"source": evil}, "run_id": "0"}
        result |= {"provenance": {"command": evil}, "best": {"test": {evil: 0.5}}, "last": {"test": {evil: 0.5}}}
        write_card(tmp_path, result, {"model": {"hub_id": None, "name": "m", "approximation": evil}, "label": evil})
        _, text = (tmp_path / "README.md").read_text(encoding="utf-8").split("\n---\n", 1)
        outside = [part for i, part in enumerate(text.split("````")) if i % 2 == 0]
        assert len(outside) == 3 and evil.splitlines()[1] not in "".join(outside)
        assert "<script" not in "".join(outside) and "".join(outside).count("</details>") == 1

    def test_the_pieces(self):
        assert [csv_cell(v) for v in ("=1", "@a", "-x", "+1", "a=1", -1.5, None)] == [
            "'=1", "'@a", "'-x", "'+1", "a=1", -1.5, None,
        ]  # fmt: skip
        assert markdown_text("a|b <i> [x](y)\n`z`") == r"a\|b &lt;i> [x]\(y) \`z\`"
        assert fenced("a ```` b").splitlines()[0] == "`````"


def _is_number(text: str) -> bool:
    try:
        return float(text) is not None
    except ValueError:
        return False


class TestTerminal:
    def test_errors_and_progress_send_no_control_characters(self, capsys):
        from kasa_corda.launch import explain_crash
        from kasa_corda.progress import Progress

        complain(str(DataError(f"a.csv, line 3: {ESCAPE}")), 2)
        complain(str(KasaCordaError(explain_crash(ValueError(ESCAPE)))), 1)
        stream = io.StringIO()
        Progress(stream).say(f"data from {ESCAPE}")
        shown = capsys.readouterr().err + stream.getvalue()
        assert shown.count("gone") == 3 and not any(sign in shown for sign in "\x1b\x9b\u202e")

    def test_what_is_replaced_is_still_json(self):
        text = printable(json.dumps({"answer": ESCAPE}, ensure_ascii=False))
        assert "\x9b" not in text and json.loads(text) == {"answer": ESCAPE}


class TestSecrets:
    @pytest.fixture(autouse=True)
    def account(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path / "home" / "ann"))
        monkeypatch.setenv("HF_TOKEN", "hf_abcdefghij")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
        self.home = str(tmp_path / "home" / "ann")

    def test_no_file_of_a_run_holds_a_key_or_the_home_folder(self, tmp_path):
        from kasa_corda.launch import recorded

        run = RunDirectory(tmp_path / "run")
        config = {"data_dir": f"{self.home}/data", "model": {"path": f"{self.home}/m"}, "label": "hf_abcdefghij"}
        run.write_config(config)
        assert run.config() == {**config, "label": "(hidden)"}  # paths are whole again for who runs it
        with pytest.raises(KasaCordaError), recorded(run):
            raise RuntimeError(f"{self.home}/m with sk-0123456789")
        run.write_result({"notes": [f"adapter {self.home}/a"], "source": "https://me:pass@host/x", "score": 0.5})
        texts = {path.name: path.read_text(encoding="utf-8") for path in run.path.iterdir()}
        assert {"config.yaml", "error.log", "status.json", "result.json"} <= set(texts)
        for text in texts.values():
            assert self.home not in text and "sk-0" not in text and "hf_a" not in text and "pass" not in text
        assert run.result() == {"notes": ["adapter ~/a"], "source": "https://host/x", "score": 0.5}

    def test_a_stored_command_is_without_keys(self):
        command = f"{self.home}/venv/bin/python run.py hydra.job.env_set.WANDB_API_KEY=abc task.max_new_tokens=5"
        hidden = "~/venv/bin/python run.py hydra.job.env_set.WANDB_API_KEY=(hidden) task.max_new_tokens=5"
        assert public_command(command) == hidden
        kept = "python run.py evaluator.judge.api_key_env=JUDGE"
        assert public_command(kept) == kept

    def test_the_judges_key_is_hidden_whatever_its_variable_is_called(self, monkeypatch):
        from kasa_corda import privacy
        from kasa_corda.evaluation.judge.settings import JudgeConfig, api_key

        monkeypatch.setattr(privacy, "known_secrets", known := set())
        monkeypatch.setattr("kasa_corda.evaluation.judge.settings.known_secrets", known)
        monkeypatch.setenv("MINE", "0a1b2c3d4e")
        api_key(JudgeConfig(api_key_env="MINE"))
        assert public("key 0a1b2c3d4e") == "key (hidden)"

    def test_trackers_and_reports_are_told_no_more(self, tmp_path, monkeypatch):
        from kasa_corda import trackers
        from kasa_corda.config import TrackerConfig

        told = {}

        class Tracker:
            def __init__(self, *_, **__) -> None: ...
            def start(self) -> None: ...
            def store_init_configuration(self, values: dict) -> None:
                told.update(values)

        monkeypatch.setattr("accelerate.tracking.TensorBoardTracker", Tracker)
        settings = {"data_dir": f"{self.home}/data", "name": "sk-0123456789"}
        trackers.start_tracker(TrackerConfig(name="tensorboard"), RunDirectory(tmp_path), settings)
        assert told == {"data_dir": "~/data", "name": "(hidden)"}
        runs = Path(self.home) / "runs"
        make_run(runs, state="failed", status={"error": "token sk-0123456789"})
        make_run(runs, 0.5, method="kasa")
        for file in write_report(build_report([runs]), tmp_path / "out", ("md", "csv", "latex", "html")):
            text = file.read_text(encoding="utf-8")
            assert self.home not in text and "sk-0" not in text
        assert "~/runs" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")

    def test_a_folder_that_only_begins_like_the_home_folder_keeps_its_name(self):
        for path in (f"{self.home}a/x", f"/data{self.home}", f"{self.home}.old"):
            assert public(path) == path
        assert from_home(public([f"{self.home}/a/b"])) == [f"{self.home}/a/b"]

    def test_a_judge_is_sent_the_messages_and_how_to_answer(self):
        from kasa_corda.evaluation.judge.client import Client
        from kasa_corda.evaluation.judge.settings import JudgeConfig

        client = Client(JudgeConfig(base_url="http://localhost:1/v1", model="judge"))
        asked = client._request([{"role": "user", "content": "rate"}], "max_tokens", 8)
        assert set(asked) == {"model", "messages", "max_tokens", "temperature"}


def test_written_files_follow_umask(tmp_path):
    import torch
    from filelock import FileLock
    from safetensors.torch import save_file

    before = os.umask(0o007)
    try:
        run = RunDirectory(tmp_path / "run")
        run.write_status("running")
        run.append_metrics({"step": 1})
        run.write_predictions("test", [{"id": "a"}])
        for file in (run.path / "adapter" / "a.safetensors", tmp_path / "new" / "b.safetensors", tmp_path / "c"):
            file.parent.mkdir(exist_ok=True)
            save_file({"a": torch.zeros(1)}, file)
        replace_directory(tmp_path / "new", run.path / "checkpoint")
        follow_umask(run.path / "adapter")
        follow_umask(tmp_path / "c")
        write_atomically(tmp_path / "run" / "page.md", "x")
        with run.lock(), FileLock(tmp_path / "run" / "cache.lock"):
            modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()}
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o660} and {"a.safetensors", "b.safetensors", "c"} <= set(modes), modes
