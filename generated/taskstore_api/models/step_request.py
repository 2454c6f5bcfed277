from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.step_claim import StepClaim
    from ..models.step_update import StepUpdate


T = TypeVar("T", bound="StepRequest")


@_attrs_define
class StepRequest:
    """An update, and a claim of what to do next; either may be left out or null.

    Attributes:
        clientid (int): Who asks. Each process draws a random one when it starts. Equal ids may change each other's
            leases, so stay
            clear of 0 to 255, where the original clients live.
        update (None | StepUpdate | Unset): As in `update`.
        claim (None | StepClaim | Unset): As in `claim`.
    """

    clientid: int
    update: None | StepUpdate | Unset = UNSET
    claim: None | StepClaim | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        from ..models.step_claim import StepClaim  # noqa: PLC0415
        from ..models.step_update import StepUpdate  # noqa: PLC0415

        clientid = self.clientid

        update: dict[str, Any] | None | Unset
        if isinstance(self.update, Unset):
            update = UNSET
        elif isinstance(self.update, StepUpdate):
            update = self.update.to_dict()
        else:
            update = self.update

        claim: dict[str, Any] | None | Unset
        if isinstance(self.claim, Unset):
            claim = UNSET
        elif isinstance(self.claim, StepClaim):
            claim = self.claim.to_dict()
        else:
            claim = self.claim

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "clientid": clientid,
            }
        )
        if update is not UNSET:
            field_dict["update"] = update
        if claim is not UNSET:
            field_dict["claim"] = claim

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.step_claim import StepClaim  # noqa: PLC0415
        from ..models.step_update import StepUpdate  # noqa: PLC0415

        d = dict(src_dict)
        clientid = d.pop("clientid")

        def _parse_update(data: object) -> None | StepUpdate | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                update_type_0 = StepUpdate.from_dict(data)

                return update_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(None | StepUpdate | Unset, data)

        update = _parse_update(d.pop("update", UNSET))

        def _parse_claim(data: object) -> None | StepClaim | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                claim_type_0 = StepClaim.from_dict(data)

                return claim_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(None | StepClaim | Unset, data)

        claim = _parse_claim(d.pop("claim", UNSET))

        step_request = cls(
            clientid=clientid,
            update=update,
            claim=claim,
        )

        step_request.additional_properties = d
        return step_request

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
