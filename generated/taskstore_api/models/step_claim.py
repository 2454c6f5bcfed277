from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

T = TypeVar("T", bound="StepClaim")


@_attrs_define
class StepClaim:
    """From which group or groups to claim, for how long, and how many.

    Attributes:
        duration (int): How long the lease shall last, in nanoseconds from the server's now; 100 years at most.
        group (str | Unset): The name of a group, any text of 1 to 512 characters (Unicode scalar values).
        groups (list[str] | Unset): The groups to claim from, in place of one group.
        limit (int | Unset): At most this many tasks are claimed.
        wait (int | Unset): For how long the answer may be held back until there is something to claim, in nanoseconds.
        depends (list[int] | None | Unset): Ids of tasks that have to exist.
    """

    duration: int
    group: str | Unset = UNSET
    groups: list[str] | Unset = UNSET
    limit: int | Unset = UNSET
    wait: int | Unset = UNSET
    depends: list[int] | None | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        duration = self.duration

        group = self.group

        groups: list[str] | Unset = UNSET
        if not isinstance(self.groups, Unset):
            groups = self.groups

        limit = self.limit

        wait = self.wait

        depends: list[int] | None | Unset
        if isinstance(self.depends, Unset):
            depends = UNSET
        elif isinstance(self.depends, list):
            depends = self.depends

        else:
            depends = self.depends

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "duration": duration,
            }
        )
        if group is not UNSET:
            field_dict["group"] = group
        if groups is not UNSET:
            field_dict["groups"] = groups
        if limit is not UNSET:
            field_dict["limit"] = limit
        if wait is not UNSET:
            field_dict["wait"] = wait
        if depends is not UNSET:
            field_dict["depends"] = depends

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        duration = d.pop("duration")

        group = d.pop("group", UNSET)

        groups = cast(list[str], d.pop("groups", UNSET))

        limit = d.pop("limit", UNSET)

        wait = d.pop("wait", UNSET)

        def _parse_depends(data: object) -> list[int] | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, list):
                    raise TypeError()
                depends_type_0 = cast(list[int], data)

                return depends_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(list[int] | None | Unset, data)

        depends = _parse_depends(d.pop("depends", UNSET))

        step_claim = cls(
            duration=duration,
            group=group,
            groups=groups,
            limit=limit,
            wait=wait,
            depends=depends,
        )

        step_claim.additional_properties = d
        return step_claim

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
