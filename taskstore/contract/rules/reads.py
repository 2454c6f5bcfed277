"""Rules of reading: one task, several, a group, all groups."""

from collections.abc import Callable, Sequence
from functools import partial

from taskstore.contract.connection import Request
from taskstore.contract.dialect import Task, group_path, tasks_of
from taskstore.contract.rule import rule
from taskstore.contract.store import HOUR, Store

OURS = ("json",)


@rule()
def what_was_written_can_be_read(store: Store) -> None:
    """A task reads the same by its id, among other ids, in its group, and in the answer that made it."""
    group = store.group()
    [task] = store.make(adds=[store.add(group, "hello", -HOUR)])
    [task] = store.make(updates=[{"id": task.id, "data": "hello again"}])
    by_id, [among], [listed] = store.task(task.id), store.tasks(task.id), store.listing(group)
    store.expect(by_id == task, f"task {task.id} reads as {by_id}, and was made as {task}")
    store.expect(among == task, f"task {task.id} reads among others as {among}, and was made as {task}")
    store.expect(listed == task, f"task {task.id} is listed as {listed}, and was made as {task}")
    taken = store.take(group)
    store.expect(store.task(taken.id) == taken, f"the claimed task {taken} reads otherwise")


@rule()
def tasks_come_in_the_order_asked(store: Store) -> None:
    """Reading several ids answers as many, in the order asked, with null for each that no task has."""
    first, second = store.make(adds=[store.add(None, "first"), store.add(None, "second")])
    gone = store.stranger()
    asked = [second.id, gone, first.id, 0, second.id]
    found = store.tasks(*asked)
    wanted = [second, None, first, None, second]
    store.expect(found == wanted, f"the ids {asked} read as {found} instead of {wanted}")


@rule()
def several_tasks_are_read_at_one_instant(store: Store) -> None:
    """Two tasks that are always changed together are read as they stood together."""
    one, two = (task.id for task in store.make(adds=[store.add(), store.add()]))
    for n in range(10):
        change = [{"id": one, "data": str(n)}, {"id": two, "data": str(n)}]
        calls: list[Callable[[], Sequence[Task | None]]] = [partial(store.tasks, one, two, one) for _ in range(3)]
        place = n % 4  # What is sent first is often done first, and a change has to fall into the middle of a read.
        calls.insert(place, partial(store.make, updates=change))
        seen = list(store.at_once(calls))
        made = seen.pop(place)
        for found in seen:
            there = {task is not None for task in found}
            store.expect(len(there) == 1, f"of tasks that change together only some were there: {found}")
        one, two = (task.id for task in made if task)


@rule()
def a_group_lists_what_is_available(store: Store) -> None:
    """A group lists only what is available, unless asked for all; claimed and delayed tasks are not available."""
    group = store.group()
    store.make(adds=[store.add(group, "claimed")])
    taken = store.take(group)
    free, delayed = store.make(adds=[store.add(group, "free"), store.add(group, "delayed", -HOUR)])
    for no in (None, "false", "0", "no"):
        found = store.listing(group, owned=no)
        store.expect(found == [free], f"with owned={no} the group lists {found} instead of {[free]}")
    everything = {free, taken, delayed}
    for yes in ("true", "1", "yes"):
        found = store.listing(group, owned=yes)
        store.expect(set(found) == everything, f"with owned={yes} the group lists {found} instead of {everything}")


@rule()
def a_group_lists_only_its_own_tasks(store: Store) -> None:
    """A group lists its own tasks and no other's, and one without tasks is an empty list."""
    group = store.group()
    names = [group, group + "x", group + "X", group[:-1]]
    made = store.make(adds=[store.add(name, name) for name in names])
    for name, task in zip(names, made, strict=True):
        found = store.listing(name)
        store.expect(found == [task], f"the group {name!r} lists {found} instead of {[task]}")
    found = store.listing(store.group("empty"), owned="true")
    store.expect(found == [], f"a group without tasks lists {found}")


@rule()
def a_limit_is_kept(store: Store) -> None:
    """A listing has at most as many tasks as its limit says; 0 and no limit mean all."""
    group = store.group()
    made = store.make(adds=[store.add(group, str(n)) for n in range(5)])
    for limit, wanted in ((1, 1), (3, 3), (5, 5), (99, 5), (0, 5), (None, 5)):
        for owned in ("false", "true"):
            found = store.listing(group, limit=limit, owned=owned)
            store.expect(len(found) == wanted, f"with limit={limit} a group of {len(made)} tasks lists {len(found)}")


@rule(dialects=OURS)
def a_group_is_listed_in_order(store: Store) -> None:
    """A group is listed by the instant from which its tasks are available, then by id."""
    group = store.group()
    now = store.now()
    instants = (now + HOUR, 5, now - HOUR, 1, now + 2 * HOUR, 5)
    made = store.make(adds=[store.add(group, "", instant) for instant in instants])

    def order(task: Task) -> tuple[int, int]:
        return task.available, task.id

    for limit in (0, 4):
        found = store.listing(group, owned="true", limit=limit)
        wanted = sorted(made, key=order)[: limit or None]
        store.expect(found == wanted, f"the group is listed as {found} instead of {wanted}")


@rule()
def a_group_exists_while_it_has_a_task(store: Store) -> None:
    """A group is among the groups exactly while it has a task, be it available, delayed or claimed."""
    free, delayed, claimed = (store.group(what) for what in ("free", "delayed", "claimed"))
    made = store.make(adds=[store.add(free), store.add(delayed, "", -HOUR), store.add(claimed)])
    taken = store.take(claimed)
    found = store.groups()
    store.expect(
        set(found) == {free, delayed, claimed}, f"the groups are {found} instead of {[free, delayed, claimed]}"
    )
    store.expect(len(set(found)) == len(found), f"a group is named twice in {found}")
    store.make(deletes=[made[0].id, made[1].id, taken.id])
    found = store.groups()
    store.expect(found == [], f"groups without tasks are still there: {found}")


@rule(dialects=OURS)
def groups_are_sorted_and_have_an_alias(store: Store) -> None:
    """The groups are sorted by code point, and can be had at /group too."""
    names = sorted(store.common + name for name in ("b", "a", "B", "é", "z", "10", "9", "😀", "\uffee"))
    store.make(adds=[store.add(name) for name in reversed(names)])
    for path in ("/groups", "/group"):
        found = store.groups(path)
        store.expect(found == names, f"{path} answers {found} instead of {names}")


@rule(dialects=OURS)
def a_group_in_plain_letters_is_found(store: Store) -> None:
    """A name is understood as the original client sends it, unescaped as far as HTTP allows."""
    name = store.group() + "/not/escaped:at=all"
    [task] = store.make(adds=[store.add(name)])
    answer = store.send(Request("GET", f"/group/{name}"))
    found = tasks_of(store.dialect.read(answer))
    store.expect(found == [task], f"the group {name!r}, unescaped, lists {found} instead of {[task]}")
    store.expect(store.listing(name) == found, f"{group_path(name)} lists other tasks")
