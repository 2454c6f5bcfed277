"""Rules of ids: holding an id that still exists proves that nobody has touched the task since."""

from collections.abc import Callable

from taskstore.contract.dialect import Outcome
from taskstore.contract.rule import rule
from taskstore.contract.store import HOUR, Store


@rule()
def ids_grow(store: Store) -> None:
    """Every add, change and claim makes an id that is larger than all before it."""
    group = store.group()
    ids = [store.make(adds=[store.add(group)])[0].id]
    ids += [task.id for task in store.make(adds=[store.add(group), store.add(group)])]
    ids += [store.make(updates=[{"id": ids[0]}])[0].id, store.take(group).id, store.take(group, 0).id]
    store.expect(ids == sorted(set(ids)), f"ids were given out in the order {ids}")


@rule(alone=True)  # While others add tasks, what is deleted here is not the newest for long.
def ids_are_never_reused(store: Store) -> None:
    """An id is never given out again, not even when the newest task is deleted."""
    group = store.group()
    last = 0
    for _ in range(5):
        [task] = store.make(adds=[store.add(group)])
        store.expect(task.id > last, f"id {task.id} was given out after {last} had been")
        store.make(deletes=[task.id])
        last = task.id


@rule()
def a_consumed_id_reads_as_null(store: Store) -> None:
    """An id that a change, a claim or a deletion has consumed reads as null, and stays so."""
    group = store.group()
    changed, deleted = store.make(adds=[store.add(group), store.add(group)])
    store.make(updates=[{"id": changed.id}], deletes=[deleted.id])
    [claimed] = store.make(adds=[store.add(other := store.group())])
    store.take(other)
    for when in ("", " after more was added"):
        for what, id in (("changed", changed.id), ("deleted", deleted.id), ("claimed", claimed.id)):
            store.expect(store.task(id) is None, f"id {id} was {what}, and still reads as a task{when}")
        ids = (changed.id, deleted.id, claimed.id)
        store.expect(store.tasks(*ids) == [None] * 3, f"not all of the consumed ids {ids} read as null{when}")
        store.make(adds=[store.add(group), store.add(other)])


@rule()
def a_consumed_id_cannot_be_used(store: Store) -> None:
    """An id that was consumed can be neither changed, deleted nor depended on."""
    group = store.group()
    [first] = store.make(adds=[store.add(group)])
    [second] = store.make(updates=[{"id": first.id}])
    third = store.take(group)
    store.make(deletes=[third.id])
    for id in (first.id, second.id, third.id):
        error = store.refused(updates=[{"id": id}], depends=[id])
        store.expect(error.changes == [id], f"changes is {error.changes} though the id {id} in updates is gone")
        store.expect(error.depends == [id], f"depends is {error.depends} though the id {id} in depends is gone")
        error = store.refused(deletes=[id])
        store.expect(error.deletes == [id], f"deletes is {error.deletes} though the id {id} in deletes is gone")


@rule()
def an_id_is_consumed_once(store: Store) -> None:
    """Of many who change or delete the same id at once exactly one succeeds."""

    def changing(id: int, client: int) -> Callable[[], Outcome]:
        return lambda: store.update(client=client, updates=[{"id": id, "data": str(client)}])

    def deleting(id: int, client: int) -> Callable[[], Outcome]:
        return lambda: store.update(client=client, deletes=[id])

    for _ in range(3):
        [task] = store.make(adds=[store.add()])
        calls = [do(task.id, client) for client in range(1000, 1004) for do in (changing, deleting)]
        won = [outcome for outcome in store.at_once(calls) if outcome.error is None]
        store.expect(len(won) == 1, f"{len(won)} of {len(calls)} updates that consume id {task.id} succeeded")


@rule()
def new_tasks_come_in_the_order_asked(store: Store) -> None:
    """New tasks are answered adds first and updates next, each in the order asked, with ids that grow."""
    group = store.group()
    old = store.make(adds=[store.add(group, f"old {n}") for n in range(4)])
    changes = [{"id": old[n].id, "data": f"changed {n}"} for n in (2, 0, 3, 1)]
    new = store.make(adds=[store.add(group, f"new {n}") for n in range(3)], updates=changes)
    wanted = [f"new {n}" for n in range(3)] + [f"changed {n}" for n in (2, 0, 3, 1)]
    found = [task.data for task in new]
    store.expect(found == wanted, f"the new tasks came in the order {found} instead of {wanted}")
    ids = [task.id for task in new]
    store.expect(ids == sorted(ids), f"the new tasks' ids do not grow: {ids}")


@rule()
def ids_that_no_task_has_are_no_error(store: Store) -> None:
    """Zero, negative and huge ids are ids that no task has: they read as null, and cannot be used."""
    ids = [0, -1, -(2**63), 2**63 - 1, store.stranger()]
    for id in ids:
        store.expect(store.task(id) is None, f"id {id}, which was never given out, reads as a task")
    store.expect(store.tasks(*ids) == [None] * len(ids), f"not all of {ids} read as null")
    error = store.refused(updates=[{"id": id} for id in ids], deletes=[], depends=ids)
    store.expect(error.changes == ids, f"changes is {error.changes} instead of {ids}")
    store.expect(error.depends == ids, f"depends is {error.depends} instead of {ids}")
    store.expect(store.claimed(store.group(), HOUR, depends=ids).error is not None, "the claim was not refused")
