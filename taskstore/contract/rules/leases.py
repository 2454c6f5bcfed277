"""Rules of ownership: who may touch a task when. Some wait for a short lease to run out, by the server's clock."""

from typing import Any

from taskstore.contract.dialect import Task
from taskstore.contract.rule import rule
from taskstore.contract.store import HOUR, Store


@rule()
def nobody_touches_a_task_under_lease(store: Store) -> None:
    """A task that is claimed or delayed can be changed and deleted by its owner alone; to others it is owned."""
    group = store.group()
    store.make(adds=[store.add(group)], client=store.other)
    [delayed] = store.make(adds=[store.add(None, "", -HOUR)], client=store.other)
    for task in (store.take(group, client=store.other), delayed):
        changes: list[dict[str, Any]] = [{"updates": [{"id": task.id, "data": "stolen"}]}, {"deletes": [task.id]}]
        for change in changes:
            error = store.refused(**change)
            store.expect(error.owned == [task.id], f"owned is {error.owned} instead of [{task.id}]")
        store.expect(store.exist(task.id) == [True], f"task {task.id} is gone, and nobody was allowed to touch it")


@rule()
def the_owner_may_touch_a_task_at_any_time(store: Store) -> None:
    """The owner may change and delete a task while its lease or delay runs."""
    group = store.group()
    store.make(adds=[store.add(group)], client=store.other)
    [delayed] = store.make(adds=[store.add(None, "", -HOUR)])
    for task in (store.take(group), delayed):
        [changed] = store.make(updates=[{"id": task.id, "data": "half done", "duration": -HOUR}])
        store.make(deletes=[changed.id])


@rule()
def anybody_may_touch_what_is_available(store: Store) -> None:
    """A task that is available may be changed and deleted by anybody, without a claim."""
    tasks = store.make(adds=[store.add(), store.add()])
    [changed] = store.make(updates=[{"id": tasks[0].id, "data": "by another"}], client=store.other)
    store.expect(changed.data == "by another", f"the change's data became {changed.data!r}")
    store.make(deletes=[tasks[1].id], client=store.other)


@rule()
def a_task_can_be_given_back(store: Store) -> None:
    """An owner who sets a task's time to now ends the lease, and others can claim the task at once."""
    group = store.group()
    store.make(adds=[store.add(group)])
    task = store.take(group)
    store.make(updates=[{"id": task.id, "data": "given back"}])
    again = store.take(group, client=store.other)
    store.expect(again.data == "given back", f"the data became {again.data!r}")


@rule()
def a_lease_of_zero_is_over_at_once(store: Store) -> None:
    """A claim for no time at all takes a task and leaves it available."""
    group = store.group()
    store.make(adds=[store.add(group)])
    task = store.take(group, 0)
    store.make(updates=[{"id": task.id}], client=store.other)
    store.take(group, 0)
    store.take(group, client=store.other)


@rule()
def a_lease_runs_out(store: Store) -> None:
    """When a lease has run out the task can be claimed by anybody, and not before."""
    group, lease_ns = store.group(), store.lease_ns
    store.make(adds=[store.add(group)])
    start = len(store.steps)
    first = store.take(group, lease_ns)
    early = store.claim(group, client=store.other)
    store.in_time(lease_ns, since=start)
    store.expect(early is None, f"the task was claimed again, as {early}, before its lease had run out")
    store.pass_time(lease_ns)
    second = store.take(group, client=store.other)
    store.expect(second.id > first.id, f"the id went from {first.id} to {second.id}")


@rule()
def after_a_lease_anybody_may_touch_the_task(store: Store) -> None:
    """When a lease has run out anybody may change and delete the task."""
    changed, deleted = _expired(store), _expired(store)
    store.pass_time(store.lease_ns)
    store.make(updates=[{"id": changed.id}], deletes=[deleted.id], client=store.other)


@rule()
def who_is_late_may_still_finish(store: Store) -> None:
    """An owner whose lease has run out may still change and delete the task, as long as nobody has touched it."""
    changed, deleted = _expired(store), _expired(store)
    store.pass_time(store.lease_ns)
    store.make(updates=[{"id": changed.id}], deletes=[deleted.id])


@rule()
def who_is_too_late_finds_the_id_gone(store: Store) -> None:
    """An owner whose lease has run out, and whose task another client has claimed, can do nothing with the old id."""
    task = _expired(store)
    store.pass_time(store.lease_ns)
    store.take(task.group, client=store.other)
    error = store.refused(adds=[store.add()], deletes=[task.id])
    store.expect(error.deletes == [task.id], f"deletes is {error.deletes} though task {task.id} was claimed since")


@rule()
def a_lease_can_be_renewed(store: Store) -> None:
    """An owner who changes a task's time renews the lease: it then lasts from that moment on."""
    task = _expired(store)
    [renewed] = store.make(updates=[{"id": task.id, "data": task.data, "duration": -HOUR}])
    store.pass_time(store.lease_ns)
    stolen = store.claim(task.group, client=store.other)
    store.expect(stolen is None, f"the task was claimed, as {stolen}, though its lease had been renewed")
    error = store.refused(deletes=[renewed.id], client=store.other)
    store.expect(error.owned == [renewed.id], f"owned is {error.owned} instead of [{renewed.id}]")


def _expired(store: Store) -> Task:
    """A task under a lease that will have run out soon."""
    group = store.group()
    store.make(adds=[store.add(group, "data")])
    return store.take(group, store.lease_ns)
