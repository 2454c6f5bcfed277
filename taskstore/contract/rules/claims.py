"""Rules of claims: which task one takes, and that nobody else gets it meanwhile."""

from taskstore.contract.rule import rule
from taskstore.contract.store import HOUR, SECOND, Store


@rule()
def a_claim_takes_a_task_over(store: Store) -> None:
    """A claim gives the task a new id and its claimer as owner, and leaves group and data as they are."""
    group = store.group()
    [task] = store.make(adds=[store.add(group, "the data")], client=store.other)
    taken = store.take(group)
    store.expect(taken.id > task.id, f"the claimed task's id is {taken.id}, and was {task.id}")
    store.expect(taken.owner == store.one, f"the claimed task belongs to {taken.owner}, and {store.one} claimed it")
    found = (taken.group, taken.data)
    store.expect(found == (group, "the data"), f"group and data became {found}, and were {(group, 'the data')}")
    store.expect(store.exist(task.id, taken.id) == [False, True], f"id {task.id} should have become {taken.id}")


@rule()
def a_claim_of_nothing_is_empty(store: Store) -> None:
    """Where no task of the group is available a claim answers no task and no error."""
    group = store.group()
    store.make(adds=[store.add(group + "-neighbour"), store.add(group, "", -HOUR)])
    for name in (group, store.group("never used")):
        outcome = store.claimed(name)
        store.expect(outcome.error is None, "the claim of an empty group was refused")
        store.expect(not outcome.tasks, f"the claim took {outcome.tasks}, and nothing is available in {name!r}")


@rule()
def a_claimed_task_is_not_claimed_again(store: Store) -> None:
    """While a lease runs nobody can claim the task, not even its owner."""
    group = store.group()
    store.make(adds=[store.add(group)])
    store.take(group)
    for client in (store.other, store.one):
        again = store.claim(group, client=client)
        store.expect(again is None, f"the task was claimed again, as {again}, while its lease ran")


@rule()
def claimers_at_once_get_different_tasks(store: Store) -> None:
    """Of many who claim at once no two get the same task, and none goes away empty while there is one."""
    for _ in range(3):
        group = store.group()
        names = [str(n) for n in range(6)]
        store.make(adds=[store.add(group, name) for name in names])
        calls = [lambda client=client, group=group: store.claim(group, client=client) for client in range(1000, 1008)]
        found = [task.data for task in store.at_once(calls) if task]
        store.expect(len(set(found)) == len(found), f"tasks were claimed twice: {sorted(found)}")
        store.expect(sorted(found) == names, f"8 claimers of {names} got {sorted(found)}")


@rule()
def claims_are_random(store: Store) -> None:
    """A claim picks any available task, not always the first, so that claimers do not all meet at one."""
    orders = []
    for _ in range(2):
        group = store.group()
        store.make(adds=[store.add(group, str(n)) for n in range(12)])
        orders.append([int(store.take(group).data) for _ in range(12)])
    for order in orders:
        ordered = order in (sorted(order), sorted(order, reverse=True))
        store.expect(not ordered, f"twelve tasks were claimed in the order {order}")
    store.expect(orders[0] != orders[1], f"twelve tasks were claimed twice in the same order, {orders[0]}")


@rule()
def what_is_delayed_is_not_claimed(store: Store) -> None:
    """A claim takes only what is available; a task that is delayed waits, for its owner too."""
    group = store.group()
    store.make(adds=[store.add(group, "later", -HOUR), store.add(group, "now"), store.add(group, "later", -HOUR)])
    task = store.take(group)
    store.expect(task.data == "now", f"the claim took {task}, which is not available")
    for client in (store.one, store.other):
        task_ = store.claim(group, client=client)
        store.expect(task_ is None, f"the claim took {task_}, which is not available")


@rule()
def a_missing_dependency_refuses_a_claim(store: Store) -> None:
    """A claim that depends on an id that no task has is refused, also where the group is empty, and takes nothing."""
    group = store.group()
    [task] = store.make(adds=[store.add(group)])
    gone = store.stranger()
    for name in (group, store.group("empty")):
        error = store.claimed(name, depends=[task.id, gone]).error
        store.expect(error is not None, f"the claim was not refused, and depends on {gone}, which no task has")
        assert error is not None
        store.expect(error.depends == [gone], f"depends is {error.depends} instead of [{gone}]")
    store.expect(store.exist(task.id) == [True], f"the refused claim has taken task {task.id}")


@rule()
def a_changed_dependency_refuses_a_claim(store: Store) -> None:
    """A claim may depend on a task, whoever holds it, and is refused once that has changed."""
    group = store.group()
    store.make(adds=[store.add(group), store.add(group)])
    [guard] = store.make(adds=[store.add(None, "", -HOUR)], client=store.other)
    store.expect(store.claim(group, depends=[guard.id]) is not None, "the claim found no task, and there are two")
    store.make(updates=[{"id": guard.id}], client=store.other)
    error = store.claimed(group, depends=[guard.id]).error
    store.expect(error is not None, f"the claim was not refused, and depends on {guard.id}, which was changed")


@rule()
def a_lease_lasts_as_long_as_asked(store: Store) -> None:
    """A claimed task is available again exactly as long after the claim as the claim asked for."""
    group = store.group()
    store.make(adds=[store.add(group) for _ in range(3)])
    for lease_ns in (HOUR, 90 * SECOND, 100 * 365 * 24 * HOUR):
        before = store.now()
        task = store.take(group, lease_ns)
        # A second's tolerance, for servers of several machines whose clocks differ.
        early, late = before + lease_ns - SECOND, store.now() + lease_ns + SECOND
        store.expect(
            early <= task.available <= late,
            f"a lease of {lease_ns} ns ends {task.available - before} ns after the claim",
        )
