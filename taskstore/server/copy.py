"""Moves a store to another place: every task as it is, with its id, its time and its owner.

The laws of this room: it knows nothing of storages but what their contract says; it never changes what is there
already. So it can be interrupted at any time, and when it is run again it goes on.

Records of keyed requests stay behind: a request that was answered before, and is sent once more in the quarter of an
hour after it, would be carried out once more. Let clients come to rest before a store is moved.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from taskstore.errors import StoreError
from taskstore.server.messages import Task
from taskstore.server.rules import Change, Wanted
from taskstore.server.run import open_storage
from taskstore.server.storage import Storage


def copy(source: str, target: str, tell: Callable[[int], None] = lambda _: None) -> int:
    """Copy a store to an empty one, or complete a copy that was interrupted; no server may be using either of them.

    Args:
        source: The store to be copied, as for `taskstore serve --store`.
        target: The store that is to hold the same, likewise.
        tell: Called now and then with the number of tasks that have been copied.

    Returns:
        How many tasks both hold.

    Raises:
        StoreError: it could not be done; the message says why. What was copied so far stays there.
    """
    if "://" not in source and not Path(source).is_file():
        raise StoreError(f"there is no {source}")
    with closing(open_storage(source, alone=True)) as ours, closing(open_storage(target, alone=True)) as theirs:
        if (last_id := _last_id(ours)) == 0:
            raise StoreError(f"there has never been a task in {source}; is that the right name?")
        _check_is_part(theirs, ours, target)
        # An id that is named is not given out, even if its task is long gone.
        _write(theirs, Change([last_id], ()))
        copied = 0
        for page in _pages(ours):
            there = theirs.tasks([task.id for task in page])
            _write(theirs, Change((), [task for task in page if task.id not in there]))
            tell(copied := copied + len(page))
        if (number := sum(map(len, _pages(theirs)))) != copied:
            raise StoreError(f"{source} has {copied:,} tasks, and {target} {number:,}; somebody else is using it")
    return copied


def _pages(storage: Storage) -> Iterator[list[Task]]:
    for group in storage.groups():
        yield from storage.group(group, limit=0, owned=True)


def _last_id(storage: Storage) -> int:
    """The largest id that has been given out, or one that is larger still."""
    transaction = storage.begin(Wanted(frozenset(), {}, 1))
    transaction.rollback()
    return next(transaction.seen.fresh) - 1


def _check_is_part(part: Storage, whole: Storage, name: str) -> None:
    """Make sure that all that one store holds is in the other one, too."""
    for page in _pages(part):
        known = whole.tasks([task.id for task in page])
        if foreign := [task.id for task in page if known.get(task.id) != task]:
            raise StoreError(f"{name} holds tasks of its own, {foreign[0]} for one; copy to an empty store")


def _write(storage: Storage, change: Change) -> None:
    if not change:
        return
    transaction = storage.begin(Wanted(frozenset(), {}, 0))
    try:
        transaction.write(change)
    except BaseException:
        transaction.rollback()
        raise
    transaction.commit()
