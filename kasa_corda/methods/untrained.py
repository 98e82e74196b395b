"""Models that are evaluated as they are: without an adapter, or with one that exists already."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from omegaconf import MISSING

from ..config.schema import MethodConfig, option
from ..errors import ConfigError, DataError
from . import METHODS
from ._stored import reading_adapter
from .base import AdaptContext, Facts, Method

if TYPE_CHECKING:
    from torch import nn

NOTHING = "nothing: the model is evaluated as it is"
FILES = ("adapter.json", "adapter_config.json")
"""what describes an adapter of ours, and of PEFT"""


@METHODS.register("base")
class Untrained(Method):
    """The pretrained model itself."""

    facts = Facts("none", "the pretrained model", NOTHING)
    trains = False
    adapts_layers = False
    needs_language_model = True
    scaled_by = None

    def adapt(self, model: nn.Module, context: AdaptContext) -> nn.Module:
        return model.requires_grad_(False)

    def save(self, model: nn.Module, directory: Path, base: str) -> None:
        raise ConfigError(f"method={self.config.name} has nothing to save")

    def load(self, model: nn.Module, directory: Path) -> nn.Module:
        return model


@dataclass
class AdapterConfig(MethodConfig):
    """An adapter that was trained before, here or elsewhere."""

    path: str = option(
        MISSING, "folder of a PEFT adapter (safetensors), or one of our run directories or their adapter/"
    )


@METHODS.register("adapter")
class TrainedBefore(Untrained):
    """Any stored adapter on the model of ``model=``."""

    Config: ClassVar[type[MethodConfig]] = AdapterConfig
    facts = Facts("none", "a stored adapter", NOTHING)
    needs_language_model = False

    def check(self, shapes: dict[str, tuple[int, int]]) -> None:
        adapter_folder(self.config.path)

    def adapt(self, model: nn.Module, context: AdaptContext) -> nn.Module:
        folder = adapter_folder(self.config.path)
        with reading_adapter(folder):
            return load_stored(model, folder).requires_grad_(False)

    def report(self) -> dict[str, Any]:
        return {"notes": [f"adapter {self.config.path}"]}


def adapter_folder(path: str) -> Path:
    """The folder with the adapter's own files; ConfigError if there is none in ``path``."""
    given = Path(path).expanduser()
    for folder in (given, given / "adapter"):
        if any((folder / file).is_file() for file in FILES):
            return folder
    raise ConfigError(
        f"method.path={path} holds no {' or '.join(FILES)}; give the folder of a PEFT adapter or a run directory"
    )


def adapter_fingerprint(path: str) -> str:
    """Tells adapters apart by their description and a sample of their weights."""
    from ..models.fingerprint import sampled_digest

    folder = adapter_folder(path)
    description = next(folder / file for file in FILES if (folder / file).is_file())
    return sampled_digest(description, sorted(folder.glob("*.safetensors")))


def load_stored(model: nn.Module, folder: Path) -> nn.Module:
    """The model with a stored adapter, for inference. DataError if it has no safetensors or doesn't fit."""
    settings = _settings(folder)
    if settings is not None:
        chosen = METHODS[settings["name"]]
        return chosen(chosen.Config(**settings)).load(model, folder).eval()
    if (folder / FILES[0]).is_file():
        from ._own import load_adapter

        return load_adapter(model, folder)
    if not (folder / "adapter_model.safetensors").is_file():
        raise DataError(f"{folder} has no adapter_model.safetensors; pickled weights are not loaded, convert them")
    _names_no_other_files(folder)
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(model, str(folder)).eval()  # type: ignore[arg-type]
    except (RuntimeError, ValueError, KeyError) as error:
        first = str(error).strip().split("\n")[0]
        raise DataError(f"the adapter in {folder} can't be put onto this model: {first}") from None


def _names_no_other_files(folder: Path) -> None:
    """DataError if PEFT would read further files that the description names, from anywhere and pickled."""
    try:
        described = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{folder / 'adapter_config.json'} can't be read: {error}") from None
    for key in ("adapters", "prompt_tuning_init_state_dict_path", "megatron_config"):
        if isinstance(described, dict) and described.get(key):
            raise DataError(f"the adapter in {folder} has {key}, which leads to files and code outside it: not loaded")


def _settings(folder: Path) -> dict[str, Any] | None:
    """The method's settings, where the folder is the adapter/ of a run directory."""
    import yaml

    config = folder.parent / "config.yaml"
    if folder.name != "adapter" or not config.is_file():
        return None
    found: dict[str, Any] = yaml.safe_load(config.read_text(encoding="utf-8"))["method"]
    return found
