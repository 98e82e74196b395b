"""CorDA++ (arXiv 2506.13187), experimental: which covariance and how large a rank each layer gets.

The paper's equations are known here only from two third-party notes. What those leave open is decided as follows, and
may differ from the paper: sigma in the compactness is that of C (not of W C); the number of candidate covariances N is
free; C is used as normalised and damped, although the scores depend on its scale (C -> cC divides the compactness by
sqrt(c), and a logarithm below 0 turns the order of the scores around).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .conditioning import Conditioned, extremes


@dataclass(frozen=True)
class LayerSpectrum:
    """What the scores of one layer are made of."""

    out_features: int
    in_features: int
    values: tuple[float, ...]
    """all singular values of W C, descending"""
    log_compactness: float

    @property
    def selection_score(self) -> float:
        """log pi(C) * sum(sigma) / sigma_max of W C (Eq. 7-8): the covariance with the lowest score is kept."""
        return self.log_compactness * sum(self.values) / self.values[0] if self.values[0] > 0 else math.inf


def spectrum_of(W: Tensor, covariance: Conditioned) -> LayerSpectrum:
    """Singular values of W C in float64, and log pi(C), pi = sqrt(out sigma_max) / sigma_min, for W (out, in).

    Lower compactness is said to bound the change of the output by the components left out.
    """
    C = covariance.matrix
    product = W.detach().double() @ C
    values = torch.linalg.svdvals(product)
    largest, smallest = extremes(C)
    log_compactness = 0.5 * math.log(W.shape[0] * largest) - math.log(max(smallest, 1e-300))
    return LayerSpectrum(W.shape[0], W.shape[1], tuple(values.tolist()), log_compactness)


def allocate(spectra: Mapping[str, LayerSpectrum], rank: int, mode: str) -> dict[str, int]:
    """Rank of every layer's adapter (Eq. 9-10) within the parameters of a uniform ``rank``.

    Every layer starts with one filtered component, its smallest. The layer with the lowest
    log pi * sigma_r / (sum of the larger ones), sigma_r the next component to filter, filters one more, and so on.
    kpa: the filtered components are the adapter; ends when the next one would exceed the budget. ipa: the others are
    the adapter; ends when they fit the budget.
    """
    budget = sum((s.out_features + s.in_features) * min(rank, len(s.values) - 1) for s in spectra.values())
    filtered = dict.fromkeys(spectra, 1)

    def score(name: str) -> float:
        """Of filtering one component more than now."""
        s, count = spectra[name], filtered[name] + 1
        return s.log_compactness * s.values[-count] / max(sum(s.values[:-count]), 1e-300)

    def cost(name: str) -> int:
        return spectra[name].out_features + spectra[name].in_features

    used = sum(cost(n) * (1 if mode == "kpa" else len(s.values) - 1) for n, s in spectra.items())
    queue = [(score(name), name) for name, s in spectra.items() if len(s.values) > 2]
    heapq.heapify(queue)
    while queue and (mode == "kpa" or used > budget):
        _, name = heapq.heappop(queue)
        if mode == "kpa" and used + cost(name) > budget:
            break
        filtered[name] += 1
        used += cost(name) if mode == "kpa" else -cost(name)
        if filtered[name] < len(spectra[name].values) - 1:
            heapq.heappush(queue, (score(name), name))
    if mode == "kpa":
        return filtered
    return {name: len(s.values) - filtered[name] for name, s in spectra.items()}
