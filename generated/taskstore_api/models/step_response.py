from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

if TYPE_CHECKING:
    from ..models.task import Task
    from ..models.task_response_error import TaskResponseError


T = TypeVar("T", bound="StepResponse")


@_attrs_define
class StepResponse:
    """The outcome of a `step`.

    Attributes:
        tasks (list[Task]): Tasks.
        updated (list[Task]): Tasks.
        error (None | TaskResponseError): Null where all went well; otherwise why nothing has changed and nothing was
            claimed.
    """

    tasks: list[Task]
    updated: list[Task]
    error: None | TaskResponseError
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        from ..models.task_response_error import TaskResponseError  # noqa: PLC0415

        tasks = []
        for componentsschemas_tasks_item_data in self.tasks:
            componentsschemas_tasks_item = componentsschemas_tasks_item_data.to_dict()
            tasks.append(componentsschemas_tasks_item)

        updated = []
        for componentsschemas_tasks_item_data in self.updated:
            componentsschemas_tasks_item = componentsschemas_tasks_item_data.to_dict()
            updated.append(componentsschemas_tasks_item)

        error: dict[str, Any] | None
        if isinstance(self.error, TaskResponseError):
            error = self.error.to_dict()
        else:
            error = self.error

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "tasks": tasks,
                "updated": updated,
                "error": error,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.task import Task  # noqa: PLC0415
        from ..models.task_response_error import TaskResponseError  # noqa: PLC0415

        d = dict(src_dict)
        tasks = []
        _tasks = d.pop("tasks")
        for componentsschemas_tasks_item_data in _tasks:
            componentsschemas_tasks_item = Task.from_dict(
                componentsschemas_tasks_item_data
            )

            tasks.append(componentsschemas_tasks_item)

        updated = []
        _updated = d.pop("updated")
        for componentsschemas_tasks_item_data in _updated:
            componentsschemas_tasks_item = Task.from_dict(
                componentsschemas_tasks_item_data
            )

            updated.append(componentsschemas_tasks_item)

        def _parse_error(data: object) -> None | TaskResponseError:
            if data is None:
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                error_type_0 = TaskResponseError.from_dict(data)

                return error_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(None | TaskResponseError, data)

        error = _parse_error(d.pop("error"))

        step_response = cls(
            tasks=tasks,
            updated=updated,
            error=error,
        )

        step_response.additional_properties = d
        return step_response

    @property
    def additional_keys(self) -> list[str]:
        return list(self.additional_properties.keys())

    def __getitem__(self, key: str) -> Any:
        return self.additional_properties[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.additional_properties[key] = value

    def __delitem__(self, key: str) -> None:
        del self.additional_properties[key]

    def __contains__(self, key: str) -> bool:
        return key in self.additional_properties
