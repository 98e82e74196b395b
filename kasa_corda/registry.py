"""Names to classes: a registry fills itself from the modules of one package.

Registered modules must be cheap to import (no torch, transformers or peft at module level), so
that ``--help`` and configuration errors answer at once.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Generic, TypeVar

from .errors import ConfigError, unknown

T = TypeVar("T")


class Registry(Generic[T]):
    """Name -> class, discovered by importing every public module of ``package`` once."""

    def __init__(self, key: str, package: str) -> None:
        self.key = key
        self.package = package
        self._classes: dict[str, type[T]] = {}
        self._discovered = False

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator: make the class available as ``name``."""

        def add(cls: type[T]) -> type[T]:
            if self._classes.get(name, cls) is not cls:
                raise ValueError(f"{self.key} {name!r} is registered twice")
            self._classes[name] = cls
            return cls

        return add

    def names(self) -> list[str]:
        self._discover()
        return sorted(self._classes)

    def __getitem__(self, name: str) -> type[T]:
        """The class called ``name``; ConfigError with the nearest names if there is none."""
        self._discover()
        if name not in self._classes:
            raise ConfigError(unknown(self.key, name, self._classes))
        return self._classes[name]

    def items(self) -> list[tuple[str, type[T]]]:
        self._discover()
        return sorted(self._classes.items())

    def _discover(self) -> None:
        if self._discovered:
            return
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{self.package}.{module.name}")
        self._discovered = True
