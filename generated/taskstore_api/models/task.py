from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

T = TypeVar("T", bound="Task")


@_attrs_define
class Task:
    """A task as it stands in the store.

    Attributes:
        id (int): The id of a task. It grows with every change and is never reused.
        group (str): The name of a group, any text of 1 to 512 characters (Unicode scalar values).
        data (str): What the task says, any text; the store never looks inside. 1 MiB of UTF-8 by default at most.
        duration (int): Nanoseconds since 1970-01-01T00:00:00Z, by the server's clock.
        ownerid (int): Who asks. Each process draws a random one when it starts. Equal ids may change each other's
            leases, so stay
            clear of 0 to 255, where the original clients live.
        attempts (int | Unset): How often the task has been claimed since it was added; updates keep it. A server of the
            original protocol does
            not say.
    """

    id: int
    group: str
    data: str
    duration: int
    ownerid: int
    attempts: int | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        id = self.id

        group = self.group

        data = self.data

        duration = self.duration

        ownerid = self.ownerid

        attempts = self.attempts

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "id": id,
                "group": group,
                "data": data,
                "duration": duration,
                "ownerid": ownerid,
            }
        )
        if attempts is not UNSET:
            field_dict["attempts"] = attempts

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        id = d.pop("id")

        group = d.pop("group")

        data = d.pop("data")

        duration = d.pop("duration")

        ownerid = d.pop("ownerid")

        attempts = d.pop("attempts", UNSET)

        task = cls(
            id=id,
            group=group,
            data=data,
            duration=duration,
            ownerid=ownerid,
            attempts=attempts,
        )

        task.additional_properties = d
        return task

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
