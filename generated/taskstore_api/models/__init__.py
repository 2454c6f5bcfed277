"""Contains all the data models used in inputs/outputs"""

from .claim_request import ClaimRequest
from .counters import Counters
from .group_stats import GroupStats
from .health import Health
from .owned import Owned
from .problem import Problem
from .stats import Stats
from .step_claim import StepClaim
from .step_request import StepRequest
from .step_response import StepResponse
from .step_update import StepUpdate
from .task import Task
from .task_add import TaskAdd
from .task_response import TaskResponse
from .task_response_error import TaskResponseError
from .task_update import TaskUpdate
from .totals import Totals
from .update_request import UpdateRequest

__all__ = (
    "ClaimRequest",
    "Counters",
    "GroupStats",
    "Health",
    "Owned",
    "Problem",
    "Stats",
    "StepClaim",
    "StepRequest",
    "StepResponse",
    "StepUpdate",
    "Task",
    "TaskAdd",
    "TaskResponse",
    "TaskResponseError",
    "TaskUpdate",
    "Totals",
    "UpdateRequest",
)
