from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

T = TypeVar("T", bound="TaskResponseError")


@_attrs_define
class TaskResponseError:
    """Why the present state of the store forbids the request. Every culprit is named, in the order asked.

    Attributes:
        changes (list[int]): Ids in `updates` that no task has.
        deletes (list[int]): Ids in `deletes` that no task has.
        depends (list[int]): Ids in `depends` that no task has.
        owned (list[int]): Ids in `updates` or `deletes` of tasks that are under the lease of another client.
        bugs (list[str]): How the request contradicts itself.
    """

    changes: list[int]
    deletes: list[int]
    depends: list[int]
    owned: list[int]
    bugs: list[str]
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        changes = self.changes

        deletes = self.deletes

        depends = self.depends

        owned = self.owned

        bugs = self.bugs

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "changes": changes,
                "deletes": deletes,
                "depends": depends,
                "owned": owned,
                "bugs": bugs,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        changes = cast(list[int], d.pop("changes"))

        deletes = cast(list[int], d.pop("deletes"))

        depends = cast(list[int], d.pop("depends"))

        owned = cast(list[int], d.pop("owned"))

        bugs = cast(list[str], d.pop("bugs"))

        task_response_error = cls(
            changes=changes,
            deletes=deletes,
            depends=depends,
            owned=owned,
            bugs=bugs,
        )

        task_response_error.additional_properties = d
        return task_response_error

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
