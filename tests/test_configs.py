"""Every shipped config says how it is used, and that command composes, validates and really uses it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from method_cases import NEEDS
from omegaconf import OmegaConf

from kasa_corda.cli.cells import checked_cells, first_combination
from kasa_corda.cli.expand import expanded, without_grid
from kasa_corda.cli.explain import CONFIGS, GROUPS, group_options
from kasa_corda.cli.suites import read_suite, suite_lines
from kasa_corda.config import register
from kasa_corda.errors import ConfigError
from kasa_corda.launch import prepare

FILES = [path.relative_to(CONFIGS).as_posix() for path in sorted(CONFIGS.rglob("*.yaml"))]
FILES = [file for file in FILES if not file.startswith("local/")]
COMMAND = re.compile(r"^#.*?python run\.py (.+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def hydra():
    register(ConfigStore.instance())
    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="run"):
        yield GlobalHydra.instance().hydra


@pytest.fixture(scope="module")
def cells_of(hydra):
    """The checked cells of a suite, each suite composed once."""
    return cache(lambda name: checked_cells(hydra, read_suite(name).lines))


@pytest.fixture(scope="module")
def model_folder(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that says it takes 512 tokens, as real ones do."""
    folder = shutil.copytree(tiny_bert, tmp_path_factory.mktemp("model") / "mine")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 512}))
    return folder


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KASA_CORDA_DATA", raising=False)


def commands(file: str, model: Path, data: Path) -> list[list[str]]:
    """The arguments of each command line in the config's comments; what follows the last key=value is prose."""
    found = []
    for line in COMMAND.findall((CONFIGS / file).read_text(encoding="utf-8")):
        arguments = []
        adapter = data / "adapter"
        adapter.mkdir(exist_ok=True)
        (adapter / "adapter_config.json").write_text("{}")
        places = {"FOLDER": data, "DIR": model, "FILE": CONFIGS / "config.yaml", "ADAPTER": adapter}
        for placeholder, path in places.items():
            line = line.replace(placeholder, str(path))
        for word in shlex.split(line):
            if not (word.startswith("-") or re.match(r"[+\w./]+=", word)):
                break
            arguments.append(word.rstrip(",;:"))
        found.append(arguments)
    return found


def used(file: str, arguments: list[str], choices: dict[str, str], plain: dict) -> bool:
    """Whether a command uses the config ``file``: by group choice, as a suite, or (hparams) by its values."""
    group = next((name for name in GROUPS if file.startswith(f"{name}/")), None)
    if group is None:
        return True
    option = file.removeprefix(f"{group}/").removesuffix(".yaml")
    if group == "suite":
        return f"suite={option}" in arguments
    if group == "hparams":
        return contains(plain, yaml.safe_load((CONFIGS / file).read_text()))
    return any(chosen == option for name, chosen in choices.items() if name.split("@")[0] == group)


def contains(whole: dict, part: dict) -> bool:
    return all(
        contains(whole[key], value) if isinstance(value, dict) else str(whole[key]) == str(value) or whole[key] == value
        for key, value in part.items()
    )


@pytest.mark.parametrize("file", FILES)
def test_the_command_in_a_config_s_comment_composes_validates_and_uses_it(
    file, hydra, cells_of, model_folder, tmp_path
):
    if (package := NEEDS.get(Path(file).stem)) and find_spec(package) is None:
        pytest.skip(f"refused without {package}")
    found = commands(file, model_folder, tmp_path)
    assert found, f"no comment in configs/{file} says 'python run.py ...'"
    uses = []
    for arguments in found:
        sweeps = "-m" in arguments or suite_lines(arguments) is not None
        overrides = [argument for argument in arguments if argument != "-m"]
        lines = suite_lines(overrides) or [overrides]
        mode = RunMode.MULTIRUN if sweeps else RunMode.RUN
        first = first_combination(hydra, without_grid(expanded(lines[0]).overrides))
        config = hydra.compose_config("config", first, run_mode=mode, with_log_configuration=False)
        choices = OmegaConf.to_container(config.hydra.runtime.choices)
        if sweeps:
            suite = file.removeprefix("suite/").removesuffix(".yaml")
            own = overrides == [f"suite={suite}"]
            if file.startswith("suite/") and {"compare", "include"} & set(yaml.safe_load((CONFIGS / file).read_text())):
                # its first cell; test_suites_cells.py has all
                own, lines = False, [[o if "[" in o else o.split(",")[0] for o in lines[0]]]
            cells = cells_of(suite) if own else checked_cells(hydra, lines)
            assert [cell.error for cell in cells if cell.error] == []
            plain = cells[0].plain
        else:
            plain = {k: v for k, v in OmegaConf.to_container(config, resolve=True).items() if k != "hydra"}
            prepare(plain)
        uses.append(used(file, arguments, choices, plain))
    assert any(uses), f"no command in configs/{file} uses it"


def test_every_folder_of_configs_is_a_group_of_the_command_line():
    folders = {file.split("/")[0] for file in FILES if "/" in file}
    groups = folders - {"hydra"} | {"hydra/launcher"}
    assert groups == set(GROUPS)
    assert {"joblib", "submitit_slurm", "submitit_local", "ray", "basic"} <= set(group_options("hydra/launcher"))


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("hparams/")])
def test_published_settings_lie_where_their_scale_method_model_and_task_find_them(file):
    scale, method, model, *task = file.removeprefix("hparams/").removesuffix(".yaml").split("/")
    assert scale in group_options("scale")
    assert method in (*group_options("method"), "any")
    assert model in group_options("model")
    assert "/".join(task) in group_options("task")


def test_a_suite_s_lines_take_further_overrides_which_win(hydra):
    lines = suite_lines(["suite=pocket_glue", "task=glue/sst2", "seed=7", "trainer.max_steps=3"])
    cells = checked_cells(hydra, lines)
    assert len(cells) == 4
    assert {(cell.config.seed, cell.config.trainer.max_steps) for cell in cells} == {(7, 3)}


def test_a_suite_runs_as_one_sweep_with_one_table(run_py):
    arguments = ["suite=pocket_glue", "method=probe", "seed=0,1", "trainer.max_steps=2"]
    done = run_py(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("sweep of 2 cells: 2 to run, 0 finished earlier, 0 impossible\n")
    assert done.stdout.rstrip().endswith("2 of 2 cells finished")
    assert run_py(*arguments).stdout.startswith("sweep of 2 cells: 0 to run, 2 finished earlier")


def test_pocket_glue_is_four_methods_on_five_tasks_with_three_seeds(cells_of):
    cells = cells_of("pocket_glue")
    assert len({cell.directory.path for cell in cells}) == 60
    assert {cell.config.model.name for cell in cells} == {"minilm"}
    assert {cell.config.selection for cell in cells} == {"held_out"}


def test_paper_glue_gives_lora_the_rank_schedule_and_length_of_each_published_kasa_row(cells_of):
    cells = cells_of("paper_glue")
    methods = {
        name: {(c.config.model.name, c.config.task.name): c.config for c in cells if c.config.method.name == name}
        for name in ("kasa", "lora")
    }
    assert len(cells) == 36
    assert methods["kasa"].keys() == methods["lora"].keys()
    for key, kasa in methods["kasa"].items():
        lora = methods["lora"][key]
        assert (kasa.trainer, kasa.task, kasa.selection) == (lora.trainer, lora.task, lora.selection), key
        for name in ("rank", "alpha", "dropout", "target_modules"):
            assert getattr(kasa.method, name) == getattr(lora.method, name), key


def test_suites_can_be_run_together_and_null_is_no_suite():
    assert suite_lines(["suite=null", "seed=1"]) is None
    both = suite_lines(["suite=pocket_glue,paper_glue", "dry_run=true"])
    assert len(both) == len(read_suite("pocket_glue").lines) + len(read_suite("paper_glue").lines)
    assert all(line[-1] == "dry_run=true" for line in both)


def test_a_damaged_suite_file_says_what_it_must_hold(tmp_path, monkeypatch):
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "mine.yaml").write_text("sweep: method=kasa\n")
    for module in ("suites", "explain"):
        monkeypatch.setattr(f"kasa_corda.cli.{module}.CONFIGS", tmp_path)
    with pytest.raises(ConfigError, match=r"mine\.yaml must hold sweep: a list of override lines"):
        read_suite("mine")
