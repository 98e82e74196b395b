"""How a learning rate is chosen fairly (docs/protocol.md): windows, stages, alpha's rule, searches that were run."""

from .alpha import alpha_rule
from .families import Family, families
from .rates import window
from .stages import Decision, decide

__all__ = ["Decision", "Family", "alpha_rule", "decide", "families", "window"]
