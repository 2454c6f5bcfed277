"""Contains all the data models used in inputs/outputs"""

from .claim_request import ClaimRequest
from .health import Health
from .owned import Owned
from .problem import Problem
from .task import Task
from .task_add import TaskAdd
from .task_response import TaskResponse
from .task_response_error import TaskResponseError
from .task_update import TaskUpdate
from .update_request import UpdateRequest

__all__ = (
    "ClaimRequest",
    "Health",
    "Owned",
    "Problem",
    "Task",
    "TaskAdd",
    "TaskResponse",
    "TaskResponseError",
    "TaskUpdate",
    "UpdateRequest",
)
