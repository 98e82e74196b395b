"""Fine-tuning methods, one file per family."""

from ..registry import Registry
from .base import Method

METHODS: Registry[Method] = Registry("method.name", "kasa_corda.methods")

__all__ = ["METHODS", "Method"]
