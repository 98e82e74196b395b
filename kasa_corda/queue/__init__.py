"""Many runs on one machine: ordered by what they decide, spread over the GPUs, failures recorded and retried.

``run(jobs)`` is the whole interface. No Hydra in here; names are imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazily

if TYPE_CHECKING:
    from .jobs import Done, Job
    from .order import ordered
    from .runner import run

__all__ = ["Done", "Job", "ordered", "run"]

__getattr__ = lazily(__name__, {"Done": "jobs", "Job": "jobs", "ordered": "order", "run": "runner"})
