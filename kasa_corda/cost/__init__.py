"""What a run or a suite costs before it runs: seconds, memory, disk, downloads. No Hydra; torch only where it must.

``estimate(config)`` is one run on this machine (or by any ``Profile``); ``plan`` adds up the cells of a suite.
"""

from __future__ import annotations

from .estimate import Estimate, estimate
from .profile import Profile, profile_for

__all__ = ["Estimate", "Profile", "estimate", "profile_for"]
