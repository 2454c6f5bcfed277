from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

T = TypeVar("T", bound="GroupStats")


@_attrs_define
class GroupStats:
    """What one group holds.

    Attributes:
        group (str): The name of a group, any text of 1 to 512 characters (Unicode scalar values).
        available (int): A number of things.
        owned (int): A number of things.
        delayed (int): A number of things.
        oldest_age (int): A number of things.
    """

    group: str
    available: int
    owned: int
    delayed: int
    oldest_age: int
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        group = self.group

        available = self.available

        owned = self.owned

        delayed = self.delayed

        oldest_age = self.oldest_age

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "group": group,
                "available": available,
                "owned": owned,
                "delayed": delayed,
                "oldest_age": oldest_age,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        group = d.pop("group")

        available = d.pop("available")

        owned = d.pop("owned")

        delayed = d.pop("delayed")

        oldest_age = d.pop("oldest_age")

        group_stats = cls(
            group=group,
            available=available,
            owned=owned,
            delayed=delayed,
            oldest_age=oldest_age,
        )

        group_stats.additional_properties = d
        return group_stats

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
