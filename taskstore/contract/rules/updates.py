"""Rules of updates: all or nothing, every culprit named, and what becomes of a task."""

from typing import Any

from taskstore.contract.dialect import Task
from taskstore.contract.rule import rule
from taskstore.contract.store import HOUR, Store

OURS = ("json",)
"""Of rules that the contract adds of its own."""


@rule()
def a_refused_update_changes_nothing(store: Store) -> None:
    """An update of which one part is forbidden does none of the others."""
    mine, yours = store.group("mine"), store.group("yours")
    changed, deleted, leased = (
        store.make(adds=[store.add(mine, "change me")])
        + store.make(adds=[store.add(mine, "delete me")])
        + store.make(adds=[store.add(yours, "leased", -HOUR)], client=store.other)
    )
    before = [changed, deleted, leased]
    forbidden: list[dict[str, list[Any]]] = [
        {"updates": [{"id": store.stranger()}]},
        {"deletes": [store.stranger()]},
        {"depends": [store.stranger()]},
        {"updates": [{"id": leased.id}]},
        {"deletes": [leased.id]},
    ]
    for part in forbidden:
        store.refused(
            adds=[store.add(mine, "add me")],
            updates=[{"id": changed.id, "data": "changed"}, *part.get("updates", [])],
            deletes=[deleted.id, *part.get("deletes", [])],
            depends=part.get("depends", []),
        )
        after = store.tasks(*(task.id for task in before))
        store.expect(after == before, f"after a refused update the tasks {before} read as {after}")
        names = [task.data for task in store.listing(mine)]
        store.expect(len(names) == 2, f"after a refused update the group holds {names}")


@rule()
def a_refusal_names_every_culprit(store: Store) -> None:
    """A refusal names every culprit and not only the first, in its list and in the order asked."""
    mine, yours = store.group("mine"), store.group("yours")
    good = store.make(adds=[store.add(mine) for _ in range(3)])
    leased = store.make(adds=[store.add(yours, "", -HOUR) for _ in range(4)], client=store.other)
    gone = [store.stranger() for _ in range(6)]
    error = store.refused(
        adds=[store.add(mine)],
        updates=[{"id": id} for id in (good[0].id, gone[1], leased[1].id, gone[0], leased[0].id)],
        deletes=[good[1].id, gone[3], leased[3].id, gone[2], leased[2].id],
        depends=[good[2].id, gone[5], gone[4]],
    )
    owned = [leased[n].id for n in (1, 0, 3, 2)]
    store.expect(error.changes == [gone[1], gone[0]], f"changes is {error.changes} instead of {[gone[1], gone[0]]}")
    store.expect(error.deletes == [gone[3], gone[2]], f"deletes is {error.deletes} instead of {[gone[3], gone[2]]}")
    store.expect(error.depends == [gone[5], gone[4]], f"depends is {error.depends} instead of {[gone[5], gone[4]]}")
    store.expect(sorted(error.owned) == sorted(owned), f"owned is {error.owned} instead of {owned}")
    store.expect(not error.bugs, f"bugs is {error.bugs}, and the update does not contradict itself")


@rule()
def a_missing_dependency_refuses_an_update(store: Store) -> None:
    """An update that depends on an id that no task has is refused."""
    [there] = store.make(adds=[store.add()])
    gone = store.stranger()
    error = store.refused(adds=[store.add()], depends=[there.id, gone])
    store.expect(error.depends == [gone], f"depends is {error.depends} instead of [{gone}]")
    rest = [*error.changes, *error.deletes, *error.owned, *error.bugs]
    store.expect(not rest, f"the refusal names other culprits than the missing dependency: {rest}")


@rule()
def a_changed_dependency_refuses_an_update(store: Store) -> None:
    """An update that depends on an id is refused once that task was changed, claimed or deleted."""
    changed, claimed, deleted = (store.add(store.group(what)) for what in ("changed", "claimed", "deleted"))
    tasks = store.make(adds=[changed, claimed, deleted])
    store.make(adds=[store.add()], depends=[task.id for task in tasks])
    store.make(updates=[{"id": tasks[0].id}], deletes=[tasks[2].id])
    store.take(claimed["group"])
    for task in tasks:
        error = store.refused(adds=[store.add()], depends=[task.id])
        store.expect(error.depends == [task.id], f"depends is {error.depends} instead of [{task.id}]")


@rule()
def a_dependency_asks_only_for_existence(store: Store) -> None:
    """Whoever depends on a task need not own it, it need not be available, and it stays as it is."""
    leased = store.group("leased")
    tasks = store.make(adds=[store.add(leased), store.add(None, "", -HOUR)], client=store.other)
    ids = [store.take(leased, client=store.other).id, tasks[1].id]
    for _ in range(2):
        store.make(adds=[store.add()], depends=ids)
    store.expect(store.exist(*ids) == [True, True], f"a task of {ids} is gone, and was only depended on")


@rule()
def an_update_may_depend_on_what_it_consumes(store: Store) -> None:
    """A dependency has to exist when the update begins; the same update may change or delete it."""
    tasks = store.make(adds=[store.add(), store.add()])
    store.make(updates=[{"id": tasks[0].id}], deletes=[tasks[1].id], depends=[task.id for task in tasks])


@rule()
def the_group_stays(store: Store) -> None:
    """An update keeps the task's group, even if it names another one."""
    group, other = store.group(), store.group("other")
    [task] = store.make(adds=[store.add(group)])
    for more in ({}, {"group": other}, {"group": ""}):
        [task] = store.make(updates=[{"id": task.id, **more}])
        store.expect(task.group == group, f"an update has moved the task from group {group!r} to {task.group!r}")
    store.expect(store.listing(group) == [task], f"the group {group!r} does not list its changed task")


@rule()
def what_an_update_does_not_name_is_reset(store: Store) -> None:
    """A change without data leaves no data, and one without a time makes the task available now."""
    group = store.group()
    [task] = store.make(adds=[store.add(group, "some data", -HOUR)])
    [later] = store.make(updates=[{"id": task.id, "duration": -HOUR}])
    store.expect(later.data == "", f"an update that names no data has left {later.data!r}")
    [now] = store.make(updates=[{"id": later.id, "data": "other data"}])
    store.expect(now.data == "other data", f"the update's data became {now.data!r}")
    store.expect(later.available - now.available > HOUR // 2, "an update that names no time has left the task delayed")
    store.take(group, client=store.other)


@rule()
def what_a_client_makes_it_owns(store: Store) -> None:
    """A task belongs to who added, changed or claimed it last; an owner or id that the request names is ignored."""
    group = store.group()
    named = {"id": store.stranger(), "ownerid": store.third}

    def belongs(task: Task, client: int, did: str) -> None:
        store.expect(task.owner == client, f"client {client} {did} the task, and it belongs to {task.owner}")
        store.expect(task.id != named["id"], f"the task has the id {task.id} that the request named")

    [task] = store.make(adds=[{**store.add(group), **named}])
    belongs(task, store.one, "added")
    [task] = store.make(updates=[{"ownerid": store.third, "id": task.id}], client=store.other)
    belongs(task, store.other, "changed")
    belongs(store.take(group), store.one, "claimed")


@rule(dialects=OURS)
def an_update_of_nothing_succeeds(store: Store) -> None:
    """An update without any content does nothing and succeeds, also with dependencies alone."""
    store.make()
    store.make(adds=[], updates=[], deletes=[], depends=[])
    [task] = store.make(adds=[store.add()])
    store.make(depends=[task.id])


@rule(dialects=OURS)
def contradictions_are_bugs(store: Store) -> None:
    """The same id in two updates, or in updates and deletes, is told in bugs, and nothing changes."""
    tasks = store.make(adds=[store.add(), store.add()])
    first, second = (task.id for task in tasks)
    twice = [{"id": first, "data": "a"}, {"id": first, "data": "b"}]
    contradictions: list[dict[str, Any]] = [{"updates": twice}, {"updates": [{"id": first}], "deletes": [first]}]
    for lists in contradictions:
        error = store.refused(adds=[store.add()], **lists)
        store.expect(bool(error.bugs), "bugs is empty, and the update contradicts itself")
        texts = all(isinstance(bug, str) for bug in error.bugs)
        store.expect(texts, f"bugs is {error.bugs} instead of a list of texts")
    store.refused(updates=[{"id": second}, *twice])
    found = store.tasks(first, second)
    store.expect(found == tasks, f"after refused updates the tasks {tasks} read as {found}")


@rule(dialects=OURS)
def a_repeated_id_counts_once(store: Store) -> None:
    """An id that stands several times in deletes or depends counts once."""
    [task] = store.make(adds=[store.add()])
    gone = store.stranger()
    error = store.refused(deletes=[gone, task.id, gone], depends=[gone, gone])
    store.expect(error.deletes == [gone], f"deletes is {error.deletes} instead of [{gone}]")
    store.expect(error.depends == [gone], f"depends is {error.depends} instead of [{gone}]")
    store.make(deletes=[task.id, task.id], depends=[task.id, task.id])


@rule()
def many_changes_fit_in_one_update(store: Store) -> None:
    """Several hundred adds, changes and deletions are one update."""
    group = store.group()
    tasks = store.make(adds=[store.add(group, str(n)) for n in range(300)])
    changes = [{"id": task.id, "data": task.data} for task in tasks[:150]]
    new = store.make(adds=[store.add(group, str(n)) for n in range(100)], updates=changes)
    store.make(deletes=[task.id for task in new + tasks[150:]], depends=[task.id for task in new])
    left = store.exist(*(task.id for task in tasks + new))
    store.expect(not any(left), f"{sum(left)} of {len(left)} tasks that were consumed still exist")
