"""Singular subspaces of weights: the r largest or r smallest directions, without a full SVD. Torch only."""

from .batch import bottom_subspaces, top_subspaces
from .cache import SpectralCache
from .cached import cached_bottom_subspaces, cached_top_subspaces
from .compute import bottom_subspace, top_subspace
from .subspace import Product, Subspace

__all__ = [
    "Product",
    "SpectralCache",
    "Subspace",
    "bottom_subspace",
    "bottom_subspaces",
    "cached_bottom_subspaces",
    "cached_top_subspaces",
    "top_subspace",
    "top_subspaces",
]
