from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

T = TypeVar("T", bound="ClaimRequest")


@_attrs_define
class ClaimRequest:
    """What to claim, and for how long.

    Attributes:
        clientid (int): Who asks. Each process draws a random one when it starts. Equal ids may change each other's
            leases, so stay
            clear of 0 to 255, where the original clients live.
        group (str): The name of a group, any text of 1 to 512 characters (Unicode scalar values).
        duration (int): How long the lease shall last, in nanoseconds from the server's now; 100 years at most.
        depends (list[int] | None | Unset): Ids of tasks that have to exist.
    """

    clientid: int
    group: str
    duration: int
    depends: list[int] | None | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        clientid = self.clientid

        group = self.group

        duration = self.duration

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
                "clientid": clientid,
                "group": group,
                "duration": duration,
            }
        )
        if depends is not UNSET:
            field_dict["depends"] = depends

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        clientid = d.pop("clientid")

        group = d.pop("group")

        duration = d.pop("duration")

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

        claim_request = cls(
            clientid=clientid,
            group=group,
            duration=duration,
            depends=depends,
        )

        claim_request.additional_properties = d
        return claim_request

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
