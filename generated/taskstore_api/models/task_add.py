from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

T = TypeVar("T", bound="TaskAdd")


@_attrs_define
class TaskAdd:
    """A task to be added. The fields `id` and `ownerid` may be present and are ignored.

    Attributes:
        group (str): The name of a group, any text of 1 to 512 characters (Unicode scalar values).
        data (str | Unset): What the task says, any text; the store never looks inside. 1 MiB of UTF-8 by default at
            most.
        duration (int | Unset): From when the task is available, in nanoseconds. Positive: that instant, counted from
            1970-01-01T00:00:00Z.
            Zero or negative: counted from the server's now; -60000000000 is in a minute, and 100 years is the most.
    """

    group: str
    data: str | Unset = UNSET
    duration: int | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        group = self.group

        data = self.data

        duration = self.duration

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "group": group,
            }
        )
        if data is not UNSET:
            field_dict["data"] = data
        if duration is not UNSET:
            field_dict["duration"] = duration

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        group = d.pop("group")

        data = d.pop("data", UNSET)

        duration = d.pop("duration", UNSET)

        task_add = cls(
            group=group,
            data=data,
            duration=duration,
        )

        task_add.additional_properties = d
        return task_add

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
