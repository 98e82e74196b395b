"""Singular subspaces of weights: the r largest or r smallest directions, without a full SVD. Torch only."""

from .subspace import Product, Subspace, bottom_subspace, top_subspace

__all__ = ["Product", "Subspace", "bottom_subspace", "top_subspace"]
