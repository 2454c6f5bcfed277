from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

if TYPE_CHECKING:
    from ..models.counters import Counters
    from ..models.group_stats import GroupStats
    from ..models.totals import Totals


T = TypeVar("T", bound="Stats")


@_attrs_define
class Stats:
    """What the store holds, and what this server has done since it started.

    Attributes:
        groups (list[GroupStats]): The groups that were asked for, sorted by name.
        totals (Totals): What all groups hold together, whatever was asked for.
        counters (Counters): What this server has done since it started.
    """

    groups: list[GroupStats]
    totals: Totals
    counters: Counters
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        groups = []
        for componentsschemas_group_stats_list_item_data in self.groups:
            componentsschemas_group_stats_list_item = (
                componentsschemas_group_stats_list_item_data.to_dict()
            )
            groups.append(componentsschemas_group_stats_list_item)

        totals = self.totals.to_dict()

        counters = self.counters.to_dict()

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "groups": groups,
                "totals": totals,
                "counters": counters,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.counters import Counters  # noqa: PLC0415
        from ..models.group_stats import GroupStats  # noqa: PLC0415
        from ..models.totals import Totals  # noqa: PLC0415

        d = dict(src_dict)
        groups = []
        _groups = d.pop("groups")
        for componentsschemas_group_stats_list_item_data in _groups:
            componentsschemas_group_stats_list_item = GroupStats.from_dict(
                componentsschemas_group_stats_list_item_data
            )

            groups.append(componentsschemas_group_stats_list_item)

        totals = Totals.from_dict(d.pop("totals"))

        counters = Counters.from_dict(d.pop("counters"))

        stats = cls(
            groups=groups,
            totals=totals,
            counters=counters,
        )

        stats.additional_properties = d
        return stats

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
