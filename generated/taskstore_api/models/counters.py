from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

T = TypeVar("T", bound="Counters")


@_attrs_define
class Counters:
    """What this server has done since it started.

    Attributes:
        adds (int): A number of things.
        claims (int): A number of things.
        updates (int): A number of things.
        deletes (int): A number of things.
        conflicts (int): A number of things.
        expired (int): A number of things.
    """

    adds: int
    claims: int
    updates: int
    deletes: int
    conflicts: int
    expired: int
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        adds = self.adds

        claims = self.claims

        updates = self.updates

        deletes = self.deletes

        conflicts = self.conflicts

        expired = self.expired

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "adds": adds,
                "claims": claims,
                "updates": updates,
                "deletes": deletes,
                "conflicts": conflicts,
                "expired": expired,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        adds = d.pop("adds")

        claims = d.pop("claims")

        updates = d.pop("updates")

        deletes = d.pop("deletes")

        conflicts = d.pop("conflicts")

        expired = d.pop("expired")

        counters = cls(
            adds=adds,
            claims=claims,
            updates=updates,
            deletes=deletes,
            conflicts=conflicts,
            expired=expired,
        )

        counters.additional_properties = d
        return counters

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
