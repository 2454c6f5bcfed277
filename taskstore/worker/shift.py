"""A shift: one run of a worker, as far as both colours share it.

The laws of this room: no I/O and no waiting here. A colour asks what to send, sends it, and brings back the answer or
the error; whoever calls sees to it that no two calls run at the same time.
"""

import logging
import random
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from taskstore.errors import HTTPError, TaskResponseError, TaskStoreError, UsageError
from taskstore.model import Step, TaskInfo
from taskstore.term import AGAIN_AFTER, RENEW_AT, WAIT_AT_MOST, try_ns
from taskstore.worker.desk import Desk, Progress, Settlement, Work
from taskstore.worker.observers import Observers
from taskstore.worker.options import Options
from taskstore.worker.outcomes import Change, Outcome, Quarantine

LONGEST_WAIT_NS: Final = 20_000_000_000
"""The longest that a claim waits; many a proxy gives up after 30 seconds."""
LOOK_NS: Final = 200_000_000
"""How long a claim waits while the worker wants to know whether all is done."""
PAUSES_S: Final = (0.1, 5.0)
"""How long to wait at first, and at most, before trying again to reach a store that does not answer."""
BELL_NS: Final = 1_000_000_000
"""For how long it is tried to end a claim that waits, and then to tidy up; and how long each try may take."""
NOT_TAKEN: Final = (400, 413, 415, 422)
"""The request itself is wrong."""

_log: Final = logging.getLogger("taskstore.worker")


@attrs.frozen
class Request:
    """A step that is to be sent: outcomes to be settled, a claim, or both."""

    arguments: Mapping[str, Any]
    """Of the client's `step`."""
    sent_ns: int
    settlement: Settlement | None = None
    limit: int = 0
    """How many tasks it claims at most; 0 if it claims nothing."""
    is_poll: bool = False
    """Whether it waits for something to claim."""
    wait_ns: int = 0
    """For how long."""
    is_call: bool = False
    """Whether it wakes a poll, or tidies up after that."""


@attrs.frozen
class Renewal:
    """Leases that are to be renewed in one update."""

    works: list[Work]
    updates: list[TaskInfo]
    timeout_ns: int
    retry_ns: int


class Shift:
    """One run of a worker.

    Args:
        options: What the worker was told.
        client_id: Who it is to the store.
        until_empty: Whether to end once its groups hold no task any more.
    """

    def __init__(self, options: Options, client_id: int, *, until_empty: bool = False) -> None:
        self.options: Final = options
        self.observers: Final = Observers(options.observers)
        self.desk: Final = Desk(
            concurrency=options.concurrency, lease_ns=options.lease_ns, batch=options.batch, policy=options.policy
        )
        self.error: BaseException | None = None
        """Why the shift had to end, if it had to."""
        self.polls: int = 0
        """How many claims that wait are on their way."""
        self.found_nothing: bool = False
        """Whether the last claim that waited has brought nothing."""
        self._until_empty = until_empty
        self._has_answered = False
        self._failures = 0
        self._must_end = False
        self._wants_call = False
        self._is_calling = False
        # A poll waits for this group, too. A task in it ends the wait, so that no request has to be cut off half-way,
        # of which nobody would know whether it has claimed something.
        self._bell = f"taskstore/bell/{client_id}/{secrets.token_hex(4)}"
        self._rung: list[int] = []

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self.desk.progress

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to be done."""
        if self._must_end:
            return True
        # What has been called may have rung a bell, which then has to be tidied up, even if the poll is over.
        is_tidy = not (self._rung or self._wants_call or self._is_calling)
        return self.desk.is_draining and self.desk.is_empty and is_tidy

    @property
    def is_cut_short(self) -> bool:
        """Whether it ends although requests may be on their way."""
        return self._must_end

    @property
    def is_looking(self) -> bool:
        """Whether it should be looked whether the groups are empty, which would end the shift."""
        is_idle = self.desk.is_dry and self.desk.is_empty
        return self._until_empty and is_idle and not (self.desk.is_draining or self._must_end)

    @property
    def may_settle(self) -> bool:
        """Whether `settlement` may have something to send."""
        return bool(self.desk.finished or self._wants_call or (self._rung and not self.polls))

    def may_poll(self, now_ns: int) -> bool:
        """Whether `poll` would have something to send."""
        desk = self.desk
        return not (desk.finished or desk.settling or desk.claiming) and desk.room(now_ns) > 0

    def drain(self) -> None:
        """Begin nothing new."""
        if not self.desk.is_draining:
            self.desk.drain()
            self._wants_call = self.polls > 0

    def end(self, error: BaseException | None = None) -> None:
        """End at once, whatever is still in hand; the leases run out."""
        self.error = self.error or error
        self._must_end = True

    # What to send

    def settlement(self, now_ns: int) -> Request | None:
        """The next outcomes to be settled, together with the next claim."""
        if self._wants_call:
            self._wants_call = False
            return self._call(Change(adds=[TaskInfo(self._bell)]), now_ns)
        if settlement := self.desk.settle(now_ns):
            limit = self.desk.room(now_ns)
            self.desk.claim(limit)
            retry_ns = min(work.retry_ns(now_ns) for work in settlement.works)
            arguments = self._arguments(settlement.change, limit, retry_ns)
            return Request(arguments, now_ns, settlement, limit)
        if self._rung and not self.polls:
            rung, self._rung = self._rung, []
            return self._call(Change(deletes=rung), now_ns)
        return None

    def poll(self, now_ns: int) -> Request | None:
        """A claim that waits, if nothing else will claim soon."""
        if not self.may_poll(now_ns):
            return None
        limit = self.desk.room(now_ns)
        lease_ns = self.options.lease_ns
        wait_ns = min(LOOK_NS if self._until_empty else LONGEST_WAIT_NS, lease_ns // WAIT_AT_MOST)
        self.desk.claim(limit)
        self.polls += 1
        arguments = self._arguments(None, limit, lease_ns // RENEW_AT)
        arguments |= {"group": [*self.options.groups, self._bell], "wait": wait_ns}
        return Request(arguments, now_ns, limit=limit, is_poll=True, wait_ns=wait_ns)

    def _arguments(self, change: Change | None, limit: int, retry_ns: int) -> dict[str, Any]:
        arguments: dict[str, Any] = {"timeout": try_ns(self.options.lease_ns), "retry": retry_ns}
        if change:
            arguments |= {
                "adds": change.adds,
                "updates": change.updates,
                "deletes": change.deletes,
                "depends": change.depends,
            }
        if limit:
            groups = self.options.groups
            arguments |= {
                "group": groups[0] if len(groups) == 1 else groups,
                "duration": self.options.lease_ns,
                "limit": limit,
                "claim_depends": self.options.depends,
            }
        return arguments

    def _call(self, change: Change, now_ns: int) -> Request:
        self._is_calling = True
        # Repeated, and so under a key: a task that was added unbeknown to us would be in the store for ever.
        arguments = {"adds": change.adds, "deletes": change.deletes, "timeout": BELL_NS, "retry": BELL_NS}
        return Request(arguments, now_ns, is_call=True)

    # What has come of it

    def answered(self, request: Request, step: Step, now_ns: int) -> None:
        """The store has done what it was asked to."""
        self._has_answered = True
        self._failures = 0
        if request.is_call:
            self._is_calling = False
            # If the poll has got the task meanwhile, it has another id now, which is known already.
            if step.updated and not self._rung:
                self._rung = [step.updated[0].id]
            return
        if settlement := request.settlement:
            self.desk.settled(settlement)
            self._tell_settled(settlement)
        if request.limit:
            self._claimed(request, step.claimed, now_ns)

    def _claimed(self, request: Request, claimed: Sequence[TaskInfo], now_ns: int) -> None:
        if request.is_poll:
            self.polls -= 1
            self.found_nothing = not claimed
            rung = [task.id for task in claimed if task.group == self._bell]
            if rung:
                self._rung = rung
                claimed = [task for task in claimed if task.group != self._bell]
        self.desk.claimed(claimed, request.limit, sent_ns=request.sent_ns, now_ns=now_ns)
        if claimed and self.observers:
            self.observers.tell("claimed", claimed)

    def _tell_settled(self, settlement: Settlement) -> None:
        if self.observers:
            for work in settlement.works:
                self.observers.tell("settled", work.task, work.outcome)

    def failed(self, request: Request, error: TaskStoreError) -> float:
        """It was refused, or did not get through; returns for how many seconds to wait before the next one."""
        if request.is_call:
            self._is_calling = False
            # Then the poll ends when its time is up, and there is nothing to tidy up. A store that has never answered
            # has given nothing either, so nobody has to wait for that.
            self._must_end = self._must_end or not self._has_answered
            return 0.0
        if request.is_poll:
            self.polls -= 1
        if request.limit:
            self.desk.not_claimed(request.limit)
        if self.observers:
            self.observers.tell("failed", error)
        if isinstance(error, TaskResponseError):
            self._refused(request, error)
            return 0.0
        if request.settlement and _is_not_taken(error):
            _log.warning("the store does not take %d outcomes: %s", len(request.settlement.works), error)
            self.desk.unacceptable(request.settlement, str(error))
            return 0.0
        if request.settlement:
            self.desk.not_settled(request.settlement)
        if _is_fatal(error) or not self._has_answered:
            self.end(error)
            return 0.0
        return self._pause_s(error)

    def _refused(self, request: Request, error: TaskResponseError) -> None:
        needed = {task.id if isinstance(task, TaskInfo) else task for task in self.options.depends}
        if request.limit and not needed.isdisjoint(error.depends):
            _log.info("a task that every claim depends on is gone, so the work is over")
            self.drain()
            if request.settlement:
                self.desk.not_settled(request.settlement)
        elif request.settlement:
            _log.info("%d outcomes were refused: %s", len(request.settlement.works), error)
            self.desk.refused(request.settlement, error)
        else:
            self.end(error)

    def _pause_s(self, error: TaskStoreError) -> float:
        first, most = PAUSES_S
        bound = min(first * (1 << self._failures), most)
        self._failures = min(self._failures + 1, 30)
        _log.warning("the store does not answer as it should, and will be asked again: %s", error)
        bound = min(bound, self.options.lease_ns / AGAIN_AFTER / 1e9)
        return bound * random.random()  # noqa: S311 - not for secrets

    # Handlers

    def tell_started(self, work: Work) -> None:
        """Say that a handler is about to be called."""
        if self.observers:
            self.observers.tell("started", work.task)

    def outcome(self, work: Work, outcome: Outcome | None, failure: BaseException | None, now_ns: int) -> Outcome:
        """The outcome of a handler that has returned one, or failed; and say so."""
        if outcome is None:
            reason = _reason(failure)
            outcome = self.options.policy.failed(work.task, reason)
            final = isinstance(outcome, Quarantine)
            what = "is put aside" if final else "will be tried again"
            level = logging.ERROR if final else logging.WARNING
            _log.log(level, "task %d of group %r %s: %s", work.task.id, work.task.group, what, reason, exc_info=failure)
        if self.observers:
            took_ns = now_ns - work.started_ns
            self.observers.tell("finished", work.task, outcome, took_ns, failure)
        return outcome

    # Leases

    def renewal(self, now_ns: int) -> tuple[list[Work], Renewal | None, int]:
        """The tasks that have just been lost, what to renew now, and when to look again."""
        care = self.desk.care(now_ns)
        self.tell_lost(care.lost)
        if not care.renewals:
            return care.lost, None, care.next_ns
        works = [work for work, _ in care.renewals]
        retry_ns = min(work.retry_ns(now_ns) for work in works)
        renewal = Renewal(works, [update for _, update in care.renewals], try_ns(self.options.lease_ns), retry_ns)
        return care.lost, renewal, care.next_ns

    def not_renewed(self, renewal: Renewal, error: TaskStoreError, now_ns: int) -> list[Work]:
        """A renewal was refused or did not get through; returns the tasks that are lost."""
        if isinstance(error, TaskResponseError):
            lost = self.desk.renewal_refused(renewal.works, error, now_ns)
            self.tell_lost(lost)
            return lost
        _log.warning("%d leases were not renewed, and will be again: %s", len(renewal.works), error)
        self.desk.not_renewed(renewal.works, now_ns)
        return []

    def tell_lost(self, works: Sequence[Work]) -> None:
        """Say that leases were lost."""
        for work in works:
            _log.warning("task %d of group %r is lost: %s", work.task.id, work.task.group, work.why)
            if self.observers:
                self.observers.tell("lost", work.task)


def _reason(failure: BaseException | None) -> str:
    # Half a character in it could be neither logged nor stored.
    return f"{type(failure).__name__}: {failure}".rstrip(": ").encode(errors="replace").decode()


def _is_not_taken(error: TaskStoreError) -> bool:
    return isinstance(error, UsageError) or (isinstance(error, HTTPError) and error.status in NOT_TAKEN)


def _is_fatal(error: TaskStoreError) -> bool:
    """Whether it is no use to try again: the address, the credentials, or the program is wrong."""
    if isinstance(error, HTTPError):
        return error.status in range(300, 500) and error.status not in (408, 425, 429)
    return isinstance(error, UsageError)
