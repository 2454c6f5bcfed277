"""The clients against the model of the store: whatever they ask, by whom and when, they tell what the model allows.

With `--hypothesis-profile thorough` the machine takes 1,000,000 steps. It counts only after it has caught planted bugs,
so each of those in the second half of this file breaks the clients, or the server, in one place, and the machine has to
object; where nothing is planted it does not.
"""

import gc
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import client_machine
import msgspec
import pytest
from client_machine import ClientMachine
from crowd import Crowd
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test

from taskstore import AsyncHTTPClient, TaskInfo, TaskStoreError, fast, lease, model, term, transport, wire
from taskstore.errors import TaskResponseError
from taskstore.server import rules, sqlite
from taskstore.server.engine import Engine
from taskstore.server.messages import Outcome, Step, StepOutcome, Task, TaskUpdate, Update
from taskstore.server.parking import Parking
from taskstore.testing import live_server

QUICK = settings(max_examples=20, stateful_step_count=50, deadline=None, derandomize=True, database=None)
PLANTED = settings(
    QUICK,
    max_examples=40,
    stateful_step_count=35,
    phases=[Phase.generate],
    print_blob=False,
    report_multiple_bugs=False,
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much),
)

Plant = Callable[[pytest.MonkeyPatch], None]
BUGS: list[Plant] = []


@pytest.fixture(scope="module")
def crowd() -> Iterator[Crowd]:
    gc.collect()  # What other tests have left behind may complain now, and not later.
    with live_server() as server:
        crowd = Crowd(server)
        yield crowd
        crowd.close()


def run(crowd: Crowd, chosen: settings) -> None:
    # It calls whatever makes a machine, though its types ask for a class.
    run_state_machine_as_test(lambda: ClientMachine(crowd), settings=chosen)  # type: ignore[arg-type]


def test_the_clients_tell_what_the_model_says(crowd: Crowd) -> None:
    run(crowd, settings() if settings.get_current_profile_name() == "thorough" else QUICK)


def bug(plant: Plant) -> Plant:
    BUGS.append(plant)
    return plant


# In what the clients ask


def instead(patch: pytest.MonkeyPatch, owner: Any, name: str, wrong: Callable[..., Any]) -> None:
    """Call `wrong` in place of a function, which it gets as its first argument."""
    honest = getattr(owner, name)
    patch.setattr(owner, name, lambda *args, **options: wrong(honest, *args, **options))


@bug
def dependencies_of_updates_are_not_sent(patch: pytest.MonkeyPatch) -> None:
    instead(patch, wire, "_update", lambda honest, adds, updates, deletes, depends: honest(adds, updates, deletes, ()))


@bug
def dependencies_of_claims_are_not_sent(patch: pytest.MonkeyPatch) -> None:
    instead(
        patch,
        wire,
        "_claim",
        lambda honest, groups, duration, limit, depends, wait: honest(groups, duration, limit, (), wait),
    )


@bug
def a_claim_loses_its_limit(patch: pytest.MonkeyPatch) -> None:
    instead(patch, wire, "_claim", lambda honest, groups, duration, limit, *rest: honest(groups, duration, 1, *rest))


@bug
def a_claim_loses_its_wait(patch: pytest.MonkeyPatch) -> None:
    instead(patch, wire, "_claim", lambda honest, *args: honest(*args[:-1], 0))


@bug
def a_claim_asks_for_the_first_of_its_groups(patch: pytest.MonkeyPatch) -> None:
    instead(
        patch,
        wire,
        "_claim",
        lambda honest, names, *rest: honest(names if isinstance(names, str) else names[:1], *rest),
    )


@bug
def durations_are_rounded_to_milliseconds(patch: pytest.MonkeyPatch) -> None:
    for module in (wire, model):
        instead(patch, module, "duration_ns", lambda honest, *args: honest(*args) // 10**6 * 10**6)


@bug
def instants_of_a_datetime_go_through_a_float(patch: pytest.MonkeyPatch) -> None:
    instead(
        patch,
        model,
        "instant_ns",
        lambda honest, instant, *name: honest(
            instant if isinstance(instant, int) else int(instant.timestamp() * 1e9), *name
        ),
    )


@bug
def a_delay_is_sent_as_an_instant(patch: pytest.MonkeyPatch) -> None:
    instead(patch, model, "delay_timespec", lambda honest, duration: abs(honest(duration)))


@bug
def a_task_that_is_replaced_loses_its_time(patch: pytest.MonkeyPatch) -> None:
    def replace(honest: Callable[..., TaskInfo], self: TaskInfo, **changes: Any) -> TaskInfo:
        timely = "available_in" in changes or "available_at" in changes
        return honest(self, **changes if timely else {**changes, "available_in": 0})

    instead(patch, TaskInfo, "replace", replace)


@bug
def a_listing_has_one_more_than_its_limit(patch: pytest.MonkeyPatch) -> None:
    instead(patch, wire, "group", lambda honest, name, limit, owned: honest(name, limit and limit + 1, owned))


@bug
def tasks_are_asked_for_in_another_order(patch: pytest.MonkeyPatch) -> None:
    instead(patch, wire, "tasks", lambda honest, ids: honest(reversed(list(ids))))


@bug
def the_fast_sender_loses_what_stands_in_a_query(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fast, "urlencode", lambda params, **options: "")


@bug
def one_colour_loses_the_dependencies_of_the_claim_in_a_step(patch: pytest.MonkeyPatch) -> None:
    async def step(self: AsyncHTTPClient, *args: Any, **options: Any) -> model.Step:
        return await honest(self, *args, **options | {"claim_depends": ()})

    honest = AsyncHTTPClient.step
    patch.setattr(AsyncHTTPClient, "step", step)


@bug
def one_client_is_taken_for_another(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AsyncHTTPClient, "client_id", 1)


@bug
def two_calls_have_the_same_key(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transport.Sender, "key", lambda self, retry: "k" * 32)


# In what they tell


@bug
def what_is_owned_is_told_as_missing(patch: pytest.MonkeyPatch) -> None:
    def refused(honest: Callable[[Any], TaskResponseError], refusal: Any) -> TaskResponseError:
        error = honest(refusal)
        return TaskResponseError(
            changes=error.changes, deletes=[*error.deletes, *error.owned], depends=error.depends, bugs=error.bugs
        )

    instead(patch, wire, "_refused", refused)


@bug
def only_the_first_culprit_is_told(patch: pytest.MonkeyPatch) -> None:
    instead(patch, wire, "_culprits", lambda honest, *args: honest(*args)[:1])


@bug
def attempts_are_not_read(patch: pytest.MonkeyPatch) -> None:
    instead(patch, wire, "_info", lambda honest, *args: attrs.evolve(honest(*args), attempts=0))


@bug
def instants_are_read_as_microseconds(patch: pytest.MonkeyPatch) -> None:
    def info(honest: Callable[..., TaskInfo], *args: Any) -> TaskInfo:
        task = honest(*args)
        return attrs.evolve(task, timespec=task.timespec // 1_000 * 1_000)

    instead(patch, wire, "_info", info)


@bug
def a_step_tells_what_it_claimed_as_updated(patch: pytest.MonkeyPatch) -> None:
    def step(honest: Callable[..., model.Step], *args: Any) -> model.Step:
        told = honest(*args)
        return model.Step(told.updated, told.claimed)

    instead(patch, wire, "_step", step)


@bug
def delayed_and_owned_are_mixed_up(patch: pytest.MonkeyPatch) -> None:
    def group_stats(honest: Callable[..., model.GroupStats], *args: Any) -> model.GroupStats:
        stats = honest(*args)
        return attrs.evolve(stats, owned=stats.delayed, delayed=stats.owned)

    instead(patch, wire, "_group_stats", group_stats)


# In leases


@bug
def a_block_that_ends_keeps_its_task(patch: pytest.MonkeyPatch) -> None:
    def release(self: lease.Lease) -> None:
        self._end()
        self._ended()

    patch.setattr(lease.Lease, "release", release)


@bug
def a_renewal_leaves_the_time_as_it_is(patch: pytest.MonkeyPatch) -> None:
    instead(patch, term.Term, "renew", lambda honest, self, now: honest(self, now) and self.task.replace())


@bug
def a_commit_leaves_out_what_depends(patch: pytest.MonkeyPatch) -> None:
    async def commit(
        self: lease.AsyncLease, adds: Any = (), updates: Any = (), deletes: Any = (), depends: Any = ()
    ) -> Any:
        return await honest(self, adds, updates, deletes)

    honest = lease.AsyncLease.commit
    patch.setattr(lease.AsyncLease, "commit", commit)


@bug
def a_lost_lease_is_an_ordinary_refusal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(term, "is_culprit", lambda task, refusal: False)


# In the server


@bug
def ownership_is_not_checked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules, "may_change", lambda task, client, now: True)


@bug
def others_may_change_a_task_a_nanosecond_late(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules, "is_available", lambda task, now: task.available < now)


@bug
def others_may_change_a_task_a_nanosecond_early(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules, "is_available", lambda task, now: task.available <= now + 1)


@bug
def a_task_is_claimed_a_nanosecond_late(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sqlite, "_CLAIMABLE", sqlite._CLAIMABLE.replace("available <= ?", "available < ?"))


@bug
def a_task_is_claimed_a_nanosecond_early(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sqlite, "_CLAIMABLE", sqlite._CLAIMABLE.replace("available <= ?", "available - 1 <= ?"))


@bug
def a_listing_comes_a_nanosecond_late(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sqlite, "_GROUP", sqlite._GROUP.replace("available <= ?", "available < ?"))


@bug
def a_change_keeps_the_data_that_it_does_not_name(patch: pytest.MonkeyPatch) -> None:
    def changed(honest: Callable[..., Task], task: Task, update: TaskUpdate, *rest: Any) -> Task:
        made = honest(task, update, *rest)
        return msgspec.structs.replace(made, data=update.data or task.data)

    instead(patch, rules, "changed", changed)


@bug
def a_change_moves_a_task_to_another_group(patch: pytest.MonkeyPatch) -> None:
    instead(patch, rules, "changed", lambda honest, *args: msgspec.structs.replace(honest(*args), group="a"))


@bug
def a_change_forgets_the_attempts(patch: pytest.MonkeyPatch) -> None:
    instead(patch, rules, "changed", lambda honest, *args: msgspec.structs.replace(honest(*args), attempts=0))


@bug
def a_refused_step_claims_all_the_same(patch: pytest.MonkeyPatch) -> None:
    def step(honest: Callable[..., StepOutcome], self: rules._Book, step: Step) -> StepOutcome:
        outcome = honest(self, step)
        if outcome.error and step.claim:
            self.leases(step.claim)
        return outcome

    instead(patch, rules._Book, "step", step)


@bug
def a_refused_update_adds_all_the_same(patch: pytest.MonkeyPatch) -> None:
    def update(honest: Callable[..., Outcome], self: rules._Book, update: Update) -> Outcome:
        outcome = honest(self, update)
        if outcome.error:
            honest(self, Update(update.client, update.adds))
        return outcome

    instead(patch, rules._Book, "update", update)


@bug
def nobody_who_waits_is_told_of_what_is_made(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Parking, "tell", lambda self, made, now: None)


@bug
def a_claim_is_carried_out_though_its_time_is_up(patch: pytest.MonkeyPatch) -> None:
    async def run(self: Engine) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await self._settle([call for call in batch if not call.done.cancelled()])

    patch.setattr(Engine, "_run", run)


@bug
def conflicts_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    instead(
        patch,
        Engine,
        "_count",
        lambda honest, self, request, answer: None if answer.error else honest(self, request, answer),
    )


@pytest.mark.parametrize("plant", BUGS, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_caught(plant: Plant, crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd.clear()
    monkeypatch.setattr(client_machine, "WAIT_NS", 300_000_000)  # so that nobody waits for long for what will not come
    plant(monkeypatch)
    with pytest.raises((AssertionError, TaskStoreError, Flaky)):
        run(crowd, PLANTED)
