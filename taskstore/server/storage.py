"""The contract of a storage: eight verbs, and what each one promises.

A storage keeps tasks and knows no rules; it stores what `rules.decide` decided. Everything it promises is tested by
tests/server/test_storage.py, once for every storage there is.

**Isolation.** From `begin` to `commit` nothing that was `seen` can change by other hands, nor can a task that the
batch named and that did not exist come to be. Transactions therefore have the effect of running one after the other,
in the order of their commits, and every read sees all commits that were answered before it began.

**Durability.** When `commit` returns, the change is on disk. When it raises `CommitError`, its `applied` says whether
the change is certainly absent (False) or may be there (None); after the latter the storage must not be used again.

**Ids** are given out in ascending order and never twice, whatever crashes or restarts happen in between. A change may
name ids that were not given out here, as made or as gone, when a store is copied: then new ones are larger than those.
"""

from collections.abc import Collection, Generator, Mapping
from typing import Literal, Protocol

from taskstore.errors import StoreError
from taskstore.server.messages import GroupStats, Task, Totals
from taskstore.server.rules import Change, Seen, Wanted

KEEP_NS = 15 * 60 * 10**9
"""For how long the record of a keyed request is kept, in nanoseconds."""
PAGE = 256
"""How many tasks a page of a listing holds: few enough that one page never holds up the requests beside it."""
WINDOW = 32
"""A claim chooses at random among this many of the tasks that have been available for longest.

A choice among all would cost a second index; a choice of the very first would make all claimers meet at one task.
"""


class CommitError(StoreError):
    """A change could not be made durable: the disk is full or failing, or the database went away."""

    def __init__(self, message: str, *, applied: bool | None) -> None:
        super().__init__(message)
        self.applied = applied


class ConflictError(CommitError):
    """A transaction lost against another one (a deadlock, a failed serialization). Nothing of it was done."""

    def __init__(self, message: str) -> None:
        super().__init__(message, applied=False)


class Transaction(Protocol):
    """One batch, from reading to writing."""

    @property
    def seen(self) -> Seen:
        """What the batch asked for, as of now."""
        ...

    def write(self, change: Change) -> None:
        """Write `change`, so that `commit` has only to make it durable.

        Raises:
            CommitError: it could not be done; the transaction has ended.
            ConflictError: likewise, and it may be done again.
        """
        ...

    def commit(self) -> None:
        """Make durable what was written, all of it.

        Raises:
            CommitError: it could not be done; the transaction has ended.
            ConflictError: likewise, and it may be done again.
        """
        ...

    def rollback(self) -> None:
        """End the transaction without a change. Never raises."""
        ...


class Storage(Protocol):
    """Where tasks are kept."""

    @property
    def waits(self) -> Literal["never", "commit", "always"]:
        """Which verbs may wait for something, so that they do not belong on an event loop.

        Never: all is in memory. Commit: for the disk; the others are quick, except listings. Always: for a network.
        """
        ...

    @property
    def parallel(self) -> int:
        """How many transactions may be under way at a time."""
        ...

    def begin(self, wanted: Wanted) -> Transaction:
        """Start a transaction and read what `wanted` names.

        Raises:
            CommitError: the store cannot take changes now.
            ConflictError: likewise, and it may be done again.
        """
        ...

    def tasks(self, ids: Collection[int]) -> Mapping[int, Task]:
        """Those of `ids` that exist, all read at one instant."""
        ...

    def group(self, name: str, *, limit: int, owned: bool) -> Generator[list[Task], None, None]:
        """The tasks of a group at one instant, in pages, ordered by available time and id.

        Args:
            name: The group.
            limit: At most this many; 0 for no limit.
            owned: Also those that are not available now.
        """
        ...

    def groups(self) -> list[str]:
        """The names of all groups that have a task, sorted by code point."""
        ...

    def soonest(self, groups: Collection[str]) -> Mapping[str, int]:
        """In how many nanoseconds the first task of each group becomes available; zero or less if one is already.

        Groups without tasks are left out.
        """
        ...

    def stats(self, prefix: str, limit: int) -> tuple[list[GroupStats], Totals]:
        """What the groups hold whose name begins with `prefix`, at most `limit` of them or, with 0, all; and totals."""
        ...

    def close(self) -> None:
        """Let go of everything. The storage cannot be used afterwards."""
        ...
