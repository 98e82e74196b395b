"""Which printed scores are possible at all: an audit of published numbers, ours among them."""

from .auditing import Coverage, audit, coverage
from .finding import SEVERITIES, Finding, by_severity, name_of
from .runs import RunAudit, audit_runs
from .sets import EvaluationSet, read_sets

__all__ = [
    "SEVERITIES",
    "Coverage",
    "EvaluationSet",
    "Finding",
    "RunAudit",
    "audit",
    "audit_runs",
    "by_severity",
    "coverage",
    "name_of",
    "read_sets",
]
