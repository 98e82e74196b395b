"""One run as data: the schema of every config group, its validation and its run id."""

from .run_id import run_id
from .schema import (
    EvaluatorConfig,
    MethodConfig,
    ModelConfig,
    RunConfig,
    ScaleConfig,
    TaskConfig,
    TrackerConfig,
    TrainerConfig,
    field_help,
    register,
)

__all__ = [
    "EvaluatorConfig",
    "MethodConfig",
    "ModelConfig",
    "RunConfig",
    "ScaleConfig",
    "TaskConfig",
    "TrackerConfig",
    "TrainerConfig",
    "field_help",
    "register",
    "run_id",
]
