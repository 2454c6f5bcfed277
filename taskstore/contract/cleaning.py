"""Removes what a run has made, on any server, also on one that does much wrong.

The law of this room: only a task in a group of ours is removed, and only by its id.
"""

from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Final

from taskstore.contract.rule import Absent, Broken
from taskstore.contract.store import Store

AT_ONCE: Final = 500
"""How many tasks are deleted in one update."""
ATTEMPTS: Final = 4
"""How often a refused update is tried with what it was not refused for."""


def clean(store: Store) -> int:
    """Remove all that was made, and return how many tasks are left.

    What others may touch goes with a few updates. What is under a lease goes in the name of its owner: the kit made
    up all of them.
    """
    owners = dict(store.ledger.owners)
    with suppress(Absent, Broken):
        for name in store.groups(prefix=store.ledger.prefix):
            owners.update((task.id, task.owner) for task in store.listing(name, owned="true"))
    held: dict[int, list[int]] = {}
    for ids in _chunks(sorted(owners)):
        for id in _delete(store, ids, store.one):
            held.setdefault(owners[id], []).append(id)
    return sum(len(_delete(store, ids, owner)) for owner, all_ids in held.items() for ids in _chunks(all_ids))


def _chunks(ids: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), AT_ONCE):
        yield ids[start : start + AT_ONCE]


def _delete(store: Store, ids: Collection[int], client: int) -> set[int]:
    """Delete those of `ids` that exist and that the client may delete, and return those that it may not."""
    rest, held = set(ids), set[int]()
    for _ in range(ATTEMPTS):
        try:
            error = store.update(client=client, deletes=sorted(rest)).error if rest else None
        except Broken:
            break
        if error is None:
            return held
        held |= rest & set(error.owned)
        rest -= {*error.deletes, *error.owned}
    return held | rest
