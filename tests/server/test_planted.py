"""A judge counts only after it has caught planted bugs: each of these makes the store break a promise now and then.

The bugs are planted in the store itself, not in what it answers, and the simulation runs one seed after the other until
the judge objects. The same seeds pass where nothing is planted.
"""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from trials import scratch
from trials.history import Promise, Violation
from trials.judge import violations
from trials.simulation import Serial, Simulation, look

from taskstore.server import rules, sqlite
from taskstore.server.engine import Engine
from taskstore.server.messages import Claim, Outcome, Refusal, Task, TaskUpdate, Update
from taskstore.server.rules import Change, Seen, Wanted
from taskstore.server.sqlite import SqliteStorage
from taskstore.server.storage import CommitError
from taskstore.testing import SettableClock

CALLS, CRASHES, SEEDS = 250, 6, 150

Plant = Callable[[pytest.MonkeyPatch], None]
BUGS: dict[str, tuple[Plant, Promise]] = {}


class FullAtTimes(Serial):
    """A store on a file, whose disk is full at every seventh commit."""

    def __init__(self, path: Path, clock: SettableClock) -> None:
        super().__init__(path, clock)
        self.commits = count(1)

    def commit(self) -> None:
        if next(self.commits) % 7 == 0:
            raise self._uncommitted(apsw.FullError("planted"))
        super().commit()


def judged(seed: int) -> list[Violation]:
    with scratch() as directory:
        simulation = Simulation(Path(directory), seed, opener=FullAtTimes)
        simulation.run(CALLS, crashes=CRASHES)
        final = look(simulation.path)
    return [*simulation.complaints, *violations(simulation.history, final)]


@pytest.mark.parametrize("seed", range(30))
def test_a_store_in_which_nothing_is_planted_passes(seed: int) -> None:
    assert judged(seed) == []


def bug(promise: Promise) -> Callable[[Plant], Plant]:
    """Says which promise has to be found broken."""

    def register(plant: Plant) -> Plant:
        BUGS[plant.__name__] = plant, promise
        return plant

    return register


# Who may do what when


@bug(Promise.OWNERSHIP)
def ownership_is_not_checked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules, "may_change", lambda task, client, now: True)


@bug(Promise.REFUSED)
def an_owner_has_to_wait_for_its_own_lease(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules, "may_change", lambda task, client, now: task.available <= now)


@bug(Promise.REFUSED)
def others_may_change_a_task_a_nanosecond_late(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules, "is_available", lambda task, now: task.available < now)


@bug(Promise.OWNERSHIP)
def others_may_change_a_task_a_nanosecond_early(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules, "is_available", lambda task, now: task.available <= now + 1)


@bug(Promise.FOUND)
def a_task_can_be_claimed_a_nanosecond_late(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sqlite, "_CLAIMABLE", sqlite._CLAIMABLE.replace("available <= ?", "available < ?"))


@bug(Promise.OWNED)
def a_task_can_be_claimed_a_nanosecond_early(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sqlite, "_CLAIMABLE", sqlite._CLAIMABLE.replace("available <= ?", "available - 1 <= ?"))


@bug(Promise.FOUND)
def a_claim_overlooks_tasks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sqlite, "_CLAIMABLE", sqlite._CLAIMABLE.replace("WHERE", "WHERE id % 4 AND"))


@bug(Promise.OWNED)
def claims_of_one_batch_get_the_same_task(patch: pytest.MonkeyPatch) -> None:
    honest, honest_change = rules._Book.leases, rules._Book.change
    hidden: dict[int, None] = {}

    def leases(self: rules._Book, claim: Claim) -> list[Task]:
        offered = {name: list(tasks) for name, tasks in self.claimable.items()}
        taken = honest(self, claim)
        self.claimable = offered
        hidden.update(self.gone)
        self.gone.clear()
        return taken

    def change(self: rules._Book) -> Change:
        self.gone.update(hidden)
        hidden.clear()
        return honest_change(self)

    patch.setattr(rules._Book, "leases", leases)
    patch.setattr(rules._Book, "change", change)


@bug(Promise.SAME)
def a_lease_is_answered_and_not_written(patch: pytest.MonkeyPatch) -> None:
    def write(self: SqliteStorage, now: int, change: Change) -> None:
        at_once = [msgspec.structs.replace(task, available=min(task.available, now)) for task in change.made]
        honest_write(self, now, Change(change.gone, at_once, change.records))

    honest_write = SqliteStorage.write
    patch.setattr(SqliteStorage, "write", write)


@bug(Promise.ORDER)
def a_claim_leaves_the_old_id_behind(patch: pytest.MonkeyPatch) -> None:
    honest = rules._Book.leases

    def leases(self: rules._Book, claim: Claim) -> list[Task]:
        before = dict(self.gone)
        taken = honest(self, claim)
        self.gone = before
        return taken

    patch.setattr(rules._Book, "leases", leases)


@bug(Promise.FITS)
def a_claim_of_several_gets_a_task_twice(patch: pytest.MonkeyPatch) -> None:
    def leases(self: rules._Book, claim: Claim) -> list[Task]:
        one = msgspec.structs.replace(claim, limit=1)
        taken = [task for _ in range(claim.limit) for task in honest(self, one)]
        if len(taken) == 1 < claim.limit and claim.duration == 0:
            self.consume(taken[0].id)
            taken.append(self.make(rules.leased(taken[0], claim, next(self.fresh), self.now)))
        return taken

    honest = rules._Book.leases
    patch.setattr(rules._Book, "leases", leases)


@bug(Promise.FITS)
def attempts_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    honest = rules.leased

    def leased(task: Task, claim: Claim, id: int, now: int) -> Task:
        return msgspec.structs.replace(honest(task, claim, id, now), attempts=1)

    patch.setattr(rules, "leased", leased)


# Dependencies and refusals


def with_refusal(patch: pytest.MonkeyPatch, refuse: Callable[[Update, Mapping[int, Task], Refusal], Refusal]) -> None:
    honest = rules.refusal

    def refusal(update: Update, tasks: Mapping[int, Task], now: int) -> Refusal:
        return refuse(update, tasks, honest(update, tasks, now))

    patch.setattr(rules, "refusal", refusal)


@bug(Promise.ORDER)
def dependencies_of_updates_are_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    with_refusal(patch, lambda update, tasks, honest: msgspec.structs.replace(honest, depends=[]))


@bug(Promise.ORDER)
def dependencies_of_claims_are_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    honest = rules._Book.claim
    patch.setattr(rules._Book, "claim", lambda self, claim: honest(self, msgspec.structs.replace(claim, depends=None)))


@bug(Promise.ORDER)
def dependencies_are_not_locked(patch: pytest.MonkeyPatch) -> None:
    """Requests of a batch look at what they depend on as it was before the batch."""
    honest = rules._Book.update

    def update(self: rules._Book, update: Update) -> Outcome:
        before = self.__dict__.setdefault("before", dict(self.tasks))
        if any(id not in before for id in update.depends or ()):
            return honest(self, update)
        return honest(self, msgspec.structs.replace(update, depends=None))

    patch.setattr(rules._Book, "update", update)


@bug(Promise.ORDER)
def only_the_first_culprit_is_named(patch: pytest.MonkeyPatch) -> None:
    with_refusal(
        patch,
        lambda update, tasks, honest: (
            Refusal(honest.changes[:1], honest.deletes[:1], honest.depends[:1])
            if honest.changes or honest.deletes or honest.depends
            else honest
        ),
    )


@bug(Promise.LOST)
def what_is_there_is_called_missing(patch: pytest.MonkeyPatch) -> None:
    with_refusal(
        patch,
        lambda update, tasks, honest: (
            Refusal(deletes=list(update.deletes)) if update.deletes and update.deletes[0] % 5 == 0 else honest
        ),
    )


@bug(Promise.TRACE)
def a_refused_request_leaves_a_trace(patch: pytest.MonkeyPatch) -> None:
    honest = rules._Book.update

    def update(self: rules._Book, update: Update) -> Outcome:
        if (outcome := honest(self, update)).error and update.adds:
            honest(self, Update(update.client, update.adds))
        return outcome

    patch.setattr(rules._Book, "update", update)


@bug(Promise.FITS)
def a_contradiction_is_not_noticed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules, "contradictions", lambda update: [])
    patch.setattr(rules._Book, "consume", lambda self, id: self.gone.setdefault(id))


@bug(Promise.FITS)
def a_change_moves_the_task_to_another_group(patch: pytest.MonkeyPatch) -> None:
    honest = rules.changed

    def changed(task: Task, update: TaskUpdate, id: int, client: int, now: int) -> Task:
        return msgspec.structs.replace(honest(task, update, id, client, now), group="g1")

    patch.setattr(rules, "changed", changed)


# Ids and time


@bug(Promise.ONCE)
def the_last_id_is_not_durable(patch: pytest.MonkeyPatch) -> None:
    honest = SqliteStorage.__init__

    def init(self: SqliteStorage, path: str, **options: Any) -> None:
        honest(self, path, **options)
        self._last_id = max(highest_id(self), 0)

    patch.setattr(SqliteStorage, "__init__", init)


@bug(Promise.ONCE)
def ids_are_used_again_once_they_are_free(patch: pytest.MonkeyPatch) -> None:
    honest = SqliteStorage.write

    def write(self: SqliteStorage, now: int, change: Change) -> None:
        honest(self, now, change)
        self._last_id = highest_id(self)

    patch.setattr(SqliteStorage, "write", write)


@bug(Promise.ONCE)
def an_id_that_came_and_went_in_one_batch_is_used_again(patch: pytest.MonkeyPatch) -> None:
    honest = rules._Book.consume

    def consume(self: rules._Book, id: int) -> None:
        is_new = id in self.made
        honest(self, id)
        if is_new:
            del self.gone[id]

    patch.setattr(rules._Book, "consume", consume)


@bug(Promise.GROW)
def ids_are_given_out_in_blocks(patch: pytest.MonkeyPatch) -> None:
    """As by several servers that each took a hundred ids in advance."""
    honest = SqliteStorage._seen

    def seen(self: SqliteStorage, wanted: Wanted) -> Seen:
        blocks = self.__dict__.setdefault("blocks", [count(self._last_id + 1), count(self._last_id + 101)])
        blocks.append(blocks.pop(0))
        return msgspec.structs.replace(honest(self, wanted), fresh=blocks[0])

    patch.setattr(SqliteStorage, "_seen", seen)


@bug(Promise.CLOCK)
def time_goes_back_at_a_restart(patch: pytest.MonkeyPatch) -> None:
    honest = SqliteStorage.__init__
    opened = count()

    def init(self: SqliteStorage, path: str, **options: Any) -> None:
        honest(self, path, **options)
        clock, behind = self.clock, next(opened) * 20
        self.clock = lambda: clock() - behind

    patch.setattr(SqliteStorage, "__init__", init)


def highest_id(storage: SqliteStorage) -> int:
    id: Any = storage._write.execute("SELECT coalesce(max(id), 0) FROM task").get
    return int(id)


# What is written, and when it is answered


@bug(Promise.LOST)
def it_is_answered_before_it_is_committed(patch: pytest.MonkeyPatch) -> None:
    async def settle(self: Engine, batch: Sequence[Any]) -> None:
        answers, _, _, commit = self._decided([call.request for call in batch], ())
        for call, answer in zip(batch, answers, strict=True):
            call.done.set_result(answer)
        if commit:
            commit()

    patch.setattr(Engine, "_settle", settle_quietly(settle))


def settle_quietly(settle: Callable[[Engine, Sequence[Any]], Any]) -> Callable[[Engine, Sequence[Any]], Any]:
    async def quietly(self: Engine, batch: Sequence[Any]) -> None:
        try:
            await settle(self, batch)
        except CommitError as error:
            for call in batch:
                if not call.done.done():
                    call.done.set_exception(error)

    return quietly


@bug(Promise.LOST)
def commits_wait_for_company(patch: pytest.MonkeyPatch) -> None:
    """Only every third is made; what came since the last one is lost in a crash."""
    honest, commits = SqliteStorage.commit, count()
    patch.setattr(SqliteStorage, "commit", lambda self: None if next(commits) % 3 else honest(self))
    patch.setattr(SqliteStorage, "begin", begin_or_go_on())


@bug(Promise.LOST)
def a_failed_commit_is_answered_with_yes(patch: pytest.MonkeyPatch) -> None:
    honest = sqlite._Transaction.commit

    def commit(self: sqlite._Transaction) -> None:
        with suppress(CommitError):
            honest(self)

    patch.setattr(sqlite._Transaction, "commit", commit)


@bug(Promise.NOWHERE)
def a_key_is_recorded_in_a_transaction_of_its_own(patch: pytest.MonkeyPatch) -> None:
    """So it is lost if the machine crashes in between, and what is repeated is done once more."""
    honest = SqliteStorage.write

    def write(self: SqliteStorage, now: int, change: Change) -> None:
        honest(self, now, Change(change.gone, change.made))
        self._write.execute("COMMIT")
        self._write.execute("BEGIN IMMEDIATE")
        honest(self, now, Change([], [], change.records))

    patch.setattr(SqliteStorage, "write", write)


@bug(Promise.KEY)
def a_key_is_not_looked_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules._Book, "keyed", lambda self, keyed: self.answer(keyed.request))


@bug(Promise.KEY)
def a_key_answers_for_another_request(patch: pytest.MonkeyPatch) -> None:
    honest = rules.replayed
    patch.setattr(
        rules,
        "replayed",
        lambda keyed, record: honest(msgspec.structs.replace(keyed, fingerprint=record.fingerprint), record),
    )


@bug(Promise.TRACE)
def an_unknown_outcome_is_called_a_no(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CommitError, "applied", property(lambda self: False, lambda self, applied: None), raising=False)


@bug(Promise.TRACE)
def a_rollback_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SqliteStorage, "rollback", lambda self: None)
    patch.setattr(SqliteStorage, "begin", begin_or_go_on())


def begin_or_go_on() -> Callable[[SqliteStorage, Wanted], sqlite._Transaction]:
    """A begin that does not mind a transaction that is still open."""
    honest = SqliteStorage.begin

    def begin(self: SqliteStorage, wanted: Wanted) -> sqlite._Transaction:
        if self._writer.in_transaction:
            return sqlite._Transaction(self, self._seen(wanted))
        return honest(self, wanted)

    return begin


@bug(Promise.LOST)
def half_a_batch_is_written(patch: pytest.MonkeyPatch) -> None:
    honest = SqliteStorage.write

    def write(self: SqliteStorage, now: int, change: Change) -> None:
        made = list(change.made)
        honest(self, now, Change(change.gone, made[:-1] if len(made) > 6 else made, change.records))

    patch.setattr(SqliteStorage, "write", write)


@bug(Promise.HALF)
def a_batch_takes_two_commits(patch: pytest.MonkeyPatch) -> None:
    honest = SqliteStorage.write

    def write(self: SqliteStorage, now: int, change: Change) -> None:
        made = list(change.made)
        honest(self, now, Change(change.gone, made[:1], change.records))
        self._write.execute("COMMIT")
        self._write.execute("BEGIN IMMEDIATE")
        honest(self, now, Change([], made[1:]))

    patch.setattr(SqliteStorage, "write", write)


@bug(Promise.LOST)
def what_was_read_is_written_back(patch: pytest.MonkeyPatch) -> None:
    """Lost updates: a batch puts some tasks back as they were when the batch before it began."""
    honest = SqliteStorage.write

    def write(self: SqliteStorage, now: int, change: Change) -> None:
        honest(self, now, change)
        made = list(change.made)
        self.__dict__.setdefault("stale", []).extend(made[-1:])
        if len(self.stale) > 9:  # type: ignore[attr-defined] # it is planted, too
            self._write.execute("DELETE FROM task WHERE id = ?", (self.stale.pop(0).id,))  # type: ignore[attr-defined] # as above

    patch.setattr(SqliteStorage, "write", write)


@bug(Promise.ORDER)
def deleted_tasks_come_back(patch: pytest.MonkeyPatch) -> None:
    honest = SqliteStorage.write

    def write(self: SqliteStorage, now: int, change: Change) -> None:
        honest(self, now, Change([id for id in change.gone if id % 9], change.made, change.records))

    patch.setattr(SqliteStorage, "write", write)


@bug(Promise.ORDER)
def a_read_is_stale(patch: pytest.MonkeyPatch) -> None:
    honest = SqliteStorage.tasks

    def tasks(self: SqliteStorage, ids: Collection[int]) -> Mapping[int, Task]:
        cache: dict[int, Task] = self.__dict__.setdefault("cache", {})
        cache |= honest(self, ids)
        return {id: cache[id] for id in ids if id in cache}

    patch.setattr(SqliteStorage, "tasks", tasks)


@bug(Promise.ORDER)
def a_listing_is_stale(patch: pytest.MonkeyPatch) -> None:
    honest, calls = SqliteStorage.group, count()

    def group(self: SqliteStorage, name: str, **options: Any) -> Generator[list[Task], None, None]:
        cache: dict[str, list[list[Task]]] = self.__dict__.setdefault("cache", {})
        if name not in cache or next(calls) % 3 == 0:
            cache[name] = list(honest(self, name, **options))
        yield from cache[name]

    patch.setattr(SqliteStorage, "group", group)


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, promise = BUGS[name]
    plant(monkeypatch)
    found: set[Promise] = set()
    for seed in range(SEEDS):
        found |= {violation.promise for violation in judged(seed)}
        if promise in found:
            return
    pytest.fail(f"expected that this is broken: {promise}; found: {', '.join(found) or 'nothing'}")
