"""The rules, in rooms by what they are about."""

from collections.abc import Mapping
from typing import Final

from taskstore.contract import walk
from taskstore.contract.rule import ENTERED, Rule
from taskstore.contract.rules import additions, claims, ids, leases, reads, requests, times, updates

ROOMS: Final = (ids, updates, claims, leases, times, reads, requests, walk, additions)
_ORDER: Final = [room.__name__ for room in ROOMS]

RULES: Final[Mapping[str, Rule]] = {
    rule.name: rule for rule in sorted(ENTERED, key=lambda rule: _ORDER.index(rule.check.__module__))
}
"""All rules, by name, in the order of the report."""

__all__ = ["RULES"]
