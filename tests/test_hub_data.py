"""GLUE from the hub's layout: a local copy, the offline cache, and no way to reach either."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from synthetic import FOLDERS, GLUE, make_task, write_files, write_hub

from kasa_corda.errors import DataError
from kasa_corda.tasks import _hub


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """datasets' cache in a folder of this test."""
    import datasets

    folder = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    return folder


@pytest.mark.parametrize("name", GLUE)
def test_hub_and_files_give_the_same_examples(name, tmp_path):
    write_files(tmp_path / "data", name)
    repository = write_hub(tmp_path / "glue", name)
    task = make_task(f"glue/{name}", hub_id=str(repository))
    hub, files = task.load(None, "held_out"), task.load(tmp_path / "data", "held_out")
    assert hub.source == f"local folder {repository}, {name}"
    if name == "stsb":
        assert all(abs(a.label - b.label) < 1e-6 for a, b in zip(hub.train, files.train, strict=True))
        assert [a.text_pair for a in hub.train] == [b.text_pair for b in files.train]
    else:
        assert hub.fingerprint == files.fingerprint


def test_the_cache_serves_an_unreachable_hub(tmp_path, own_cache):
    import datasets

    repository = write_hub(tmp_path / "glue", "rte")
    datasets.load_dataset(str(repository), "rte", cache_dir=str(tmp_path / "built"))
    built = next((tmp_path / "built").rglob("dataset_info.json")).parent
    shutil.copytree(built, own_cache / "nyu-mll___glue" / "rte" / "0.0.0" / "0123456789abcdef")
    data = make_task("glue/rte").load(None, "held_out")
    assert data.source == "hub nyu-mll/glue (cache), rte" and len(data.train) == 54


def test_an_incomplete_folder_is_not_used_and_the_result_says_so(tmp_path):
    (write_files(tmp_path, "qnli") / "train.tsv").unlink()
    data = make_task("glue/qnli", hub_id=str(write_hub(tmp_path / "glue-hub", "qnli"))).load(tmp_path, "held_out")
    assert data.source.startswith("local folder") and "glue-hub" in data.source
    assert any(note.startswith("local folder not used") and "lacks train.tsv" in note for note in data.notes)


@pytest.mark.parametrize("with_folder", [False, True])
def test_unreachable_data_names_the_ways_on_within_seconds(with_folder, tmp_path):
    began = time.monotonic()
    with pytest.raises(DataError) as error:
        make_task("glue/qqp").load(tmp_path if with_folder else None, "held_out")
    message = str(error.value)
    assert time.monotonic() - began < 10 and "\n" not in message
    reason = f"{tmp_path} has neither glue/QQP nor QQP" if with_folder else "data_dir is not given"
    for part in ("task glue/qqp", reason, "connect", "data_dir=", "KASA_CORDA_DATA", "QQP/train.tsv", "task=reviews"):
        assert part in message


@pytest.mark.parametrize("hangs", [True, False])
def test_a_hub_that_hangs_or_refuses_counts_as_offline(hangs, monkeypatch):
    import datasets
    import huggingface_hub.utils
    from huggingface_hub import constants

    class Session:
        def head(self, *_: object, **__: object) -> None:
            if hangs:
                time.sleep(30)
            raise ConnectionError("refused")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.utils, "get_session", Session)
    monkeypatch.setattr(_hub, "PATIENCE", 0.2)
    began = time.monotonic()
    with pytest.raises(DataError, match="does not answer and is not in its cache"):
        _hub.load_hub("nyu-mll/glue", "rte", ["train"])
    assert time.monotonic() - began < 5
    assert not constants.HF_HUB_OFFLINE and not datasets.config.HF_HUB_OFFLINE
    monkeypatch.setattr(Session, "head", lambda *_, **__: None)
    assert _hub.hub_answers()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hub_config": "rtte"}, "can't be loaded: .*rtte"),
        ({"splits": {"test": "dev"}}, "has no split dev; found train, validation"),
        ({"columns": ["premise", "sentence2"]}, "split train: column 'premise' is missing; found sentence1"),
        ({"labels": ["yes", "no"]}, "the labels are entailment, not_entailment, expected yes, no"),
    ],
)
def test_a_hub_data_set_of_another_shape_is_explained(changes, says, tmp_path):
    task = make_task("glue/rte", hub_id=str(write_hub(tmp_path / "glue", "rte")), **changes)
    with pytest.raises(DataError, match=says) as error:
        task.load(None, "held_out")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("label", -1, "row 3, column 'label': -1 is not one of 0, 1"),
        ("label", None, "row 3, column 'label': None is not one of 0, 1"),
        ("sentence1", None, "row 3, column 'sentence1': None is not a text"),
    ],
)
def test_a_bad_hub_row_is_named(column, value, says, tmp_path):
    import datasets

    repository = write_hub(tmp_path / "glue", "rte")
    file = next((repository / "rte").glob("train*"))
    table = datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "read"))
    columns = table.to_dict()
    columns[column][3] = value
    datasets.Dataset.from_dict(columns, features=table.features).to_parquet(file)
    with pytest.raises(DataError, match=f"split train, {says}"):
        make_task("glue/rte", hub_id=str(repository)).load(None, "held_out")


def test_every_folder_name_is_the_original_one():
    assert {name: make_task(f"glue/{name}").config.folder for name in GLUE} == FOLDERS
