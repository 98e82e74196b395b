"""The figures of a profile from measurements: least squares on the logarithm of predicted / measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .observed import Observation, predictions, read
from .profile import Profile

FITTED = ("flops_32", "flops_16", "bandwidth", "host", "busy", "batch", "spectral_layer")
PRIOR = 0.05
"""weight of staying where one starts: figures that no measurement decides keep their value"""
BOUNDS = {"bandwidth": 0.7, "flops_16": 1.0}
"""how far a figure may move, as a logarithm, where the base is a good guess"""
FREE = 2.5
ENOUGH = 3
"""measurements below which a stored profile is not refined"""


def refined(base: Profile, folder: Path) -> Profile:
    """The profile fitted to the observations of a folder; itself where they are too few, or those it was fitted on."""
    observations = read(folder) if folder.is_dir() else []
    new = [each for each in observations if each.group not in base.fitted_on]
    return fitted(base, observations) if new and len(observations) >= ENOUGH else base


def fitted(base: Profile, observations: Sequence[Observation]) -> Profile:
    """The figures that fit the observed seconds best, from those of ``base``; robust against single bad runs."""
    from scipy.optimize import least_squares

    names = [name for name in FITTED if getattr(base, name) > 0]
    counted = [(each, each.run, each.work()) for each in observations]

    def profile_at(logs: Sequence[float]) -> Profile:
        values = {name: getattr(base, name) * math.exp(log) for name, log in zip(names, logs, strict=True)}
        return replace(base, **values)

    def residuals(logs: Sequence[float]) -> list[float]:
        profile = profile_at(logs)
        found = [PRIOR * log for log in logs]
        for each, config, work in counted:
            predicted = predictions(config, work, profile, each.concurrent)
            found += [math.log(max(predicted[name], 1e-9) / seconds) for name, seconds in each.notable().items()]
        return found

    limits = [BOUNDS.get(name, FREE) for name in names]
    best = least_squares(
        residuals, [0.0] * len(names), loss="soft_l1", f_scale=0.2, bounds=([-limit for limit in limits], limits)
    )
    groups = ", ".join(sorted({each.group for each in observations}))
    return replace(profile_at(best.x), fitted_on=f"{len(observations)} measurements: {groups}")


def left_out(base: Profile, observations: Sequence[Observation]) -> list[tuple[Observation, Profile]]:
    """Each group of observations (the part of the name before ``:``) with the profile that was fitted without it."""
    groups = sorted({each.group for each in observations})
    found = []
    for group in groups:
        inside = [each for each in observations if each.group == group]
        others = [each for each in observations if each.group != group]
        profile = fitted(base, others) if len(others) >= ENOUGH else base
        found += [(each, profile) for each in inside]
    return found
