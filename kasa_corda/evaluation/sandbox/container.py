"""Docker or Podman: one container per program, without network. Slower than namespaces by two orders of magnitude."""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from .base import Sandbox, python_command
from .guest.namespaces import NOBODY
from .limits import Limits
from .view import ENVIRONMENT, GUEST

IMAGE = f"docker.io/library/python:{sys.version_info.major}.{sys.version_info.minor}-slim"


class Container(Sandbox):
    layers = "a container without network, capabilities and writable files; limits; system call filter"
    environment = None  # where the engine's service is; programs get their own
    engine: ClassVar[str]

    def missing(self) -> str | None:
        if not shutil.which(self.engine):
            return f"{self.engine} is not installed"
        found = subprocess.run([self.engine, "image", "inspect", IMAGE], capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return None
        said = found.stderr.strip().splitlines()
        return f"{said[-1] if said else 'no image'} ({self.engine} pull {IMAGE} would fetch the image)"

    @contextmanager
    def start(self, limits: Limits) -> Iterator[tuple[list[str], str]]:
        name = f"kasa-corda-{uuid.uuid4().hex}"
        flags = ["--rm", "--interactive", "--name", name, "--pull", "never", "--network", "none", "--read-only"]
        flags += ["--tmpfs", f"/tmp:rw,size={limits.file_bytes},mode=1777", "--workdir", "/tmp", "--cap-drop", "ALL"]
        flags += ["--security-opt", "no-new-privileges", "--pids-limit", str(limits.threads + 8)]
        flags += ["--memory", str(2 * limits.memory_bytes), "--user", f"{NOBODY}:{NOBODY}"]
        flags += ["--volume", f"{GUEST / 'guest'}:/judge/guest:ro"]
        for key, value in ENVIRONMENT.items():
            flags += ["--env", f"{key}={value}"]
        command = python_command("python", "/judge", self.settings(limits.rlimits(), parent=None))
        try:
            yield [self.engine, "run", *flags, IMAGE, *command], "/"
        finally:  # does nothing if the container ended by itself
            subprocess.run([self.engine, "rm", "--force", name], capture_output=True, check=False)


class Docker(Container):
    name = engine = "docker"


class Podman(Container):
    name = engine = "podman"
