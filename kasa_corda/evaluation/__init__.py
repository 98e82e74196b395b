"""Evaluators, one file each, and the metrics they use."""

from ..registry import Registry
from .base import Evaluator

EVALUATORS: Registry[Evaluator] = Registry("evaluator.name", "kasa_corda.evaluation")

__all__ = ["EVALUATORS", "Evaluator"]
