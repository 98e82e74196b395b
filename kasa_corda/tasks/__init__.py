"""Task families, one file each."""

from ..registry import Registry
from .base import Example, Task, TaskData

TASKS: Registry[Task] = Registry("task.family", "kasa_corda.tasks")

__all__ = ["TASKS", "Example", "Task", "TaskData"]
