from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.task_add import TaskAdd
    from ..models.task_update import TaskUpdate


T = TypeVar("T", bound="StepUpdate")


@_attrs_define
class StepUpdate:
    """What to add, change and delete, and on what it depends.

    Attributes:
        adds (list[TaskAdd] | None | Unset): Tasks to add.
        updates (list[TaskUpdate] | None | Unset): Tasks to change.
        deletes (list[int] | None | Unset): Ids of tasks to delete.
        depends (list[int] | None | Unset): Ids of tasks that have to exist.
    """

    adds: list[TaskAdd] | None | Unset = UNSET
    updates: list[TaskUpdate] | None | Unset = UNSET
    deletes: list[int] | None | Unset = UNSET
    depends: list[int] | None | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        adds: list[dict[str, Any]] | None | Unset
        if isinstance(self.adds, Unset):
            adds = UNSET
        elif isinstance(self.adds, list):
            adds = []
            for adds_type_0_item_data in self.adds:
                adds_type_0_item = adds_type_0_item_data.to_dict()
                adds.append(adds_type_0_item)

        else:
            adds = self.adds

        updates: list[dict[str, Any]] | None | Unset
        if isinstance(self.updates, Unset):
            updates = UNSET
        elif isinstance(self.updates, list):
            updates = []
            for updates_type_0_item_data in self.updates:
                updates_type_0_item = updates_type_0_item_data.to_dict()
                updates.append(updates_type_0_item)

        else:
            updates = self.updates

        deletes: list[int] | None | Unset
        if isinstance(self.deletes, Unset):
            deletes = UNSET
        elif isinstance(self.deletes, list):
            deletes = self.deletes

        else:
            deletes = self.deletes

        depends: list[int] | None | Unset
        if isinstance(self.depends, Unset):
            depends = UNSET
        elif isinstance(self.depends, list):
            depends = self.depends

        else:
            depends = self.depends

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update({})
        if adds is not UNSET:
            field_dict["adds"] = adds
        if updates is not UNSET:
            field_dict["updates"] = updates
        if deletes is not UNSET:
            field_dict["deletes"] = deletes
        if depends is not UNSET:
            field_dict["depends"] = depends

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.task_add import TaskAdd  # noqa: PLC0415
        from ..models.task_update import TaskUpdate  # noqa: PLC0415

        d = dict(src_dict)

        def _parse_adds(data: object) -> list[TaskAdd] | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, list):
                    raise TypeError()
                adds_type_0 = []
                _adds_type_0 = data
                for adds_type_0_item_data in _adds_type_0:
                    adds_type_0_item = TaskAdd.from_dict(adds_type_0_item_data)

                    adds_type_0.append(adds_type_0_item)

                return adds_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(list[TaskAdd] | None | Unset, data)

        adds = _parse_adds(d.pop("adds", UNSET))

        def _parse_updates(data: object) -> list[TaskUpdate] | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, list):
                    raise TypeError()
                updates_type_0 = []
                _updates_type_0 = data
                for updates_type_0_item_data in _updates_type_0:
                    updates_type_0_item = TaskUpdate.from_dict(updates_type_0_item_data)

                    updates_type_0.append(updates_type_0_item)

                return updates_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(list[TaskUpdate] | None | Unset, data)

        updates = _parse_updates(d.pop("updates", UNSET))

        def _parse_deletes(data: object) -> list[int] | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, list):
                    raise TypeError()
                deletes_type_0 = cast(list[int], data)

                return deletes_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(list[int] | None | Unset, data)

        deletes = _parse_deletes(d.pop("deletes", UNSET))

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

        step_update = cls(
            adds=adds,
            updates=updates,
            deletes=deletes,
            depends=depends,
        )

        step_update.additional_properties = d
        return step_update

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
