"""Calls that are repeated: which, when, for how long, under which key, and what is raised when it was all in vain."""

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from conftest import Colour, Time
from hypothesis import given
from hypothesis import strategies as st
from peer import SECRET, TASK, Connection, Peer, assert_no_secret, http, peer

from taskstore import (
    AnswerError,
    AsyncHTTPClient,
    HTTPClient,
    HTTPError,
    NotSentError,
    OutcomeUnknownError,
    TaskInfo,
    TaskResponseError,
    TaskStoreError,
    UsageError,
    retries,
    wire,
)
from taskstore.testing import live_server
from taskstore.transport import new_key

KEYED = "Idempotency-Replayed: false\r\n"
NOTHING = http(b'{"tasks":[],"error":null}', more=KEYED)
ONE = http(b'{"tasks":[%b],"error":null}' % TASK, more=KEYED)
UNKEYED = http(b'{"tasks":[%b],"error":null}' % TASK)
REFUSED = http(b'{"tasks":[],"error":{"changes":[],"deletes":[17],"depends":[],"owned":[],"bugs":[]}}', more=KEYED)
OWNED = http(b'{"tasks":[],"error":{"changes":[],"deletes":[],"depends":[],"owned":[17],"bugs":[]}}', more=KEYED)
LEASE = timedelta(hours=1)


def unavailable(status: int = 503, more: str = "") -> bytes:
    return http(b"", f"{status} Whatever", "text/plain", more)


Act = bytes | Callable[[Connection], object]
"""What the server does with a request: it sends this answer, or does this and closes."""


def close(connection: Connection) -> None:
    """Nobody will ever know whether it was carried out."""


def doing(*acts: Act) -> Callable[[Connection], None]:
    """Do one of these for each request, whatever connection it comes by, and the last one for all that follow."""
    todo, turn = list(acts), threading.Lock()

    def script(connection: Connection) -> None:
        while connection.request():
            with turn:
                act = todo.pop(0) if len(todo) > 1 else todo[0]
            if not isinstance(act, bytes):
                act(connection)
                return
            connection.send(act)

    return script


@contextlib.contextmanager
def served(colour: Colour, time: Time, *acts: Act, **options: Any) -> Iterator[tuple[HTTPClient, Peer]]:
    with peer(doing(*acts)) as server:
        yield time.rule(colour, colour.client(server.url, **options)), server


def keys(server: Peer) -> list[str]:
    """The Idempotency-Key of each request, or nothing."""
    found = (re.search(rb"(?i)idempotency-key: (\S+)", request) for _, request in server.requests)
    return [match[1].decode() if match else "" for match in found]


def add(store: HTTPClient, **options: Any) -> list[TaskInfo]:
    return store.update(adds=[TaskInfo("map", "hello")], **options)


def claim(store: HTTPClient, **options: Any) -> TaskInfo | None:
    return store.claim("map", LEASE, **options)


def step(store: HTTPClient, **options: Any) -> object:
    return store.step(group="map", duration=LEASE, **options)


class TestKeys:
    def test_each_call_that_changes_something_has_a_key_of_its_own(self, colour: Colour, time: Time) -> None:
        stepped = http(b'{"tasks":[],"updated":[],"error":null}', more=KEYED)
        with served(colour, time, ONE, ONE, NOTHING, stepped, http(b"[]")) as (store, server):
            add(store)
            add(store)
            store.claim_batch("map", LEASE, 5)
            step(store)
            store.groups()
            *changes, read = keys(server)
        assert all(re.fullmatch("[0-9a-f]{32}", key) for key in changes)
        assert len(set(changes)) == 4
        assert read == ""

    def test_it_begins_with_the_time_in_milliseconds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """So that a server that keeps them in order has those of late side by side."""
        monkeypatch.setattr("time.time_ns", lambda: 1_795_546_371_763_999_999)
        first, second = new_key(), new_key()
        assert int(first[:12], 16) == int(second[:12], 16) == 1_795_546_371_763
        assert first != second

    @pytest.mark.parametrize("retry", [None, 0, timedelta(0)])
    def test_what_is_never_repeated_needs_none(self, colour: Colour, time: Time, retry: Any) -> None:
        with served(colour, time, ONE) as (store, server):
            add(store, retry=retry)
        assert keys(server) == [""]
        with served(colour, time, ONE, retry=retry) as (store, server):
            add(store)
            add(store, retry=1_000_000_000)
        assert [bool(key) for key in keys(server)] == [False, True]


class TestWhatIsRepeated:
    @pytest.mark.parametrize("lost", [close, Connection.reset, ONE[:-1], *map(unavailable, (429, 502, 503, 504))])
    def test_a_change_is_repeated_under_its_key(self, colour: Colour, time: Time, lost: Act) -> None:
        lost_for_good = lost if callable(lost) or b"Whatever" in lost else (lambda c: c.send(lost))
        with served(colour, time, ONE, lost_for_good, lost_for_good, ONE) as (store, server):
            add(store)
            assert add(store)[0].id == 17
        first, *others = keys(server)
        assert len(others) == 3
        assert len(set(others)) == 1
        assert first not in others
        assert len({request for _, request in server.requests[1:]}) == 1
        assert time.pauses == [1, 2]

    @pytest.mark.parametrize("call", [claim, step])
    def test_so_are_claims_and_steps(self, colour: Colour, time: Time, call: Callable[[HTTPClient], object]) -> None:
        answer = http(b'{"tasks":[%b],"updated":[],"error":null}' % TASK, more=KEYED)
        with served(colour, time, answer, close, unavailable(), answer) as (store, server):
            call(store)
            assert call(store)
        assert len(set(keys(server)[1:])) == 1

    def test_a_call_that_takes_too_long_is_repeated(self, colour: Colour, time: Time) -> None:
        with served(colour, time, ONE, Connection.stall, ONE) as (store, server):
            add(store)
            assert add(store, timeout=timedelta(milliseconds=400))
        assert len(server.requests) == 3

    @pytest.mark.parametrize("lost", [close, unavailable(502)])
    def test_a_read_is_repeated_without_a_key(self, colour: Colour, time: Time, lost: Act) -> None:
        with served(colour, time, lost, lost, http(b"[]")) as (store, server):
            assert store.groups() == []
        assert keys(server) == ["", "", ""]

    @pytest.mark.parametrize("status", [201, 301, 400, 401, 404, 409, 422, 500, 501, 505, 520])
    def test_what_would_fail_again_is_not_repeated(self, colour: Colour, time: Time, status: int) -> None:
        with served(colour, time, unavailable(status)) as (store, server):
            with pytest.raises(HTTPError) as caught:
                add(store)
            assert len(server.requests) == 1
        assert "Tried" not in str(caught.value)

    def test_nor_is_a_refusal_or_an_answer_that_does_not_fit(self, colour: Colour, time: Time) -> None:
        with served(colour, time, REFUSED, http(b"<html>")) as (store, server):
            with pytest.raises(TaskResponseError):
                store.update(deletes=[17])
            with pytest.raises(AnswerError):
                add(store)
            assert len(server.requests) == 2

    def test_a_server_that_comes_up_late_is_found(self, colour: Colour, time: Time) -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            store = colour.client(f"http://127.0.0.1:{bound.getsockname()[1]}")
            time.rule(colour, store)
            running: list[threading.Thread] = []
            pause = colour.sender(store)._sleep

            def serve() -> None:
                connection = Connection(Peer.__new__(Peer), bound.accept()[0])
                connection.peer.requests = []
                with connection.socket:
                    connection.request()
                    connection.send(ONE)

            def sleep(seconds: float) -> Any:
                if len(time.pauses) == 3:
                    bound.listen()
                    running.append(threading.Thread(target=serve))
                    running[0].start()
                return pause(seconds)

            colour.sender(store)._sleep = sleep
            assert add(store)
            running[0].join()
        assert time.pauses == [1, 2, 3, 4]


class TestHowLong:
    def test_it_is_given_up_after_a_minute(self, colour: Colour, time: Time) -> None:
        with served(colour, time, unavailable()) as (store, server):
            with pytest.raises(HTTPError, match=rf"status 503: GET {server.url}/groups\. Tried 12 times in 60\.0 s\.$"):
                store.groups()
            assert len(server.requests) == 12
        # The last pause is as long as what was left.
        assert time.pauses == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 5]

    @pytest.mark.parametrize(
        ("retry", "pauses"), [(None, []), (0, []), (timedelta(seconds=2), [1, 1]), (10**10, [1, 2, 3, 4])]
    )
    def test_or_as_the_client_or_the_call_say(self, colour: Colour, time: Time, retry: Any, pauses: list[int]) -> None:
        for client, call in (({"retry": retry}, {}), ({"retry": timedelta(days=1)}, {"retry": retry})):
            time.pauses.clear()
            with served(colour, time, close, **client) as (store, _), pytest.raises(OutcomeUnknownError):
                store.groups(**call)
            assert time.pauses == pauses

    @pytest.mark.parametrize("retry", [1.5, -1, timedelta(seconds=-1), 60, True, "a minute"])
    def test_what_is_no_time_is_refused(self, colour: Colour, retry: Any) -> None:
        with pytest.raises(UsageError, match="retry"):
            colour.client(retry=retry)
        with pytest.raises(UsageError, match="retry"):
            add(colour.client(), retry=retry)
        with pytest.raises(UsageError, match="retry"):
            colour.client(retry=...)

    @pytest.mark.parametrize(
        "method", ["groups", "task", "tasks", "group", "claim", "claim_batch", "update", "step", "stats"]
    )
    def test_every_method_takes_it(self, colour: Colour, time: Time, method: str) -> None:
        arguments: dict[str, Sequence[Any]] = {
            "task": [17], "tasks": [17], "group": ["map"], "claim": ["map", LEASE], "claim_batch": ["map", LEASE, 2]
        }  # fmt: skip
        with served(colour, time, unavailable()) as (store, _), pytest.raises(HTTPError):
            getattr(store, method)(*arguments.get(method, ()), retry=None)
        assert time.pauses == []

    def test_a_server_says_when_to_come_again(self, colour: Colour, time: Time) -> None:
        busy = unavailable(429, "Retry-After: 20\r\n")
        later = unavailable(
            503, "Date: Tue, 24 Nov 2026 07:14:00 GMT\r\nRetry-After: Tue, 24 Nov 2026 07:14:30 GMT\r\n"
        )
        with served(colour, time, ONE, busy, later, ONE) as (store, _):
            add(store)
            assert add(store)
        assert time.pauses == [20, 30]

    def test_who_comes_again_too_late_does_not_wait(self, colour: Colour, time: Time) -> None:
        answer = unavailable(503, "Retry-After: 61\r\n")
        with served(colour, time, answer) as (store, _), pytest.raises(HTTPError) as caught:
            store.groups()
        assert caught.value.retry_after == timedelta(seconds=61)
        assert time.pauses == []

    @pytest.mark.parametrize("said", ["", "soon", "-5", "1.5", "9" * 30, "Tue, 24 Nov 2026 07:14:30 GMT", "²"])
    def test_what_says_nothing_changes_nothing(self, colour: Colour, time: Time, said: str) -> None:
        answer = unavailable(503, f"Retry-After: {said}\r\n") if said.isascii() else unavailable()
        with served(colour, time, answer, http(b"[]")) as (store, _):
            assert store.groups() == []
        assert time.pauses == [1]

    def test_a_claim_is_not_repeated_when_its_lease_would_be_gone(self, colour: Colour, time: Time) -> None:
        with served(colour, time, NOTHING, close) as (store, server):
            claim(store)
            with pytest.raises(OutcomeUnknownError, match=r"Tried 3 times in 3\.0 s"):
                store.claim("map", timedelta(seconds=6))
            assert len(server.requests) == 4
        assert time.pauses == [1, 2]

    def test_as_long_as_it_has_none_it_is(self, colour: Colour, time: Time) -> None:
        busy = unavailable(429)
        with served(colour, time, busy, busy, busy, busy, ONE) as (store, _):
            assert store.claim("map", timedelta(seconds=6))
        assert time.pauses == [1, 2, 3, 4]

    def test_nor_is_anything_when_its_key_would_be_forgotten(self, colour: Colour, time: Time) -> None:
        with served(colour, time, NOTHING, close, retry=timedelta(hours=1)) as (store, _):
            claim(store)
            with pytest.raises(OutcomeUnknownError):
                add(store)
        assert sum(time.pauses) < 600 < sum(time.pauses) + len(time.pauses) + 1


class TestServersWithoutKeys:
    @pytest.mark.parametrize("lost", [close, *map(unavailable, (502, 503, 504))])
    def test_what_may_have_been_done_is_not_repeated(self, colour: Colour, time: Time, lost: Act) -> None:
        with served(colour, time, UNKEYED, lost) as (store, server):
            add(store)
            with pytest.raises((OutcomeUnknownError, HTTPError)) as caught:
                add(store)
            assert len(server.requests) == 2
        assert caught.value.applied is None
        assert time.pauses == []

    def test_what_was_certainly_not_done_is(self, colour: Colour, time: Time) -> None:
        with served(colour, time, UNKEYED, unavailable(429), UNKEYED) as (store, server):
            add(store)
            assert add(store)
            assert len(server.requests) == 3

    def test_reads_are(self, colour: Colour, time: Time) -> None:
        with served(colour, time, UNKEYED, close, http(b"[]")) as (store, _):
            add(store)
            assert store.groups() == []

    @pytest.mark.parametrize("answer", ["an empty update", "Go's empty update", "401", "404", "no JSON"])
    def test_a_server_that_is_not_known_yet_is_asked_first(self, colour: Colour, time: Time, answer: str) -> None:
        go = b'{"Tasks":null,"Error":{"Changes":[],"Deletes":[],"Depends":[],"Owned":[],"Bugs":[{}]}}'
        answers = {
            "an empty update": http(b'{"tasks":[],"error":null}'),
            "Go's empty update": http(go),
            "401": unavailable(401),
            "404": unavailable(404),
            "no JSON": http(b"<html>"),
        }
        with served(colour, time, close, answers[answer]) as (store, server):
            with pytest.raises(OutcomeUnknownError):
                add(store)
            (_, call), (_, asked) = server.requests
        assert b'"adds":[{' in call
        assert asked.endswith(b',"adds":[],"updates":[],"deletes":[],"depends":[]}')
        assert len(set(keys(server))) == 2

    def test_one_that_keeps_keys_says_so(self, colour: Colour, time: Time) -> None:
        with served(colour, time, close, close, unavailable(), NOTHING, ONE, close, ONE) as (store, server):
            assert add(store)
            assert add(store)
            sent = keys(server)
        assert len(sent) == 7
        assert sent[0] == sent[4]
        assert len({sent[0], *sent[1:4]}) == 4
        assert sent[5] == sent[6]

    def test_it_is_not_asked_for_what_was_not_done(self, colour: Colour, time: Time) -> None:
        with served(colour, time, unavailable(429), UNKEYED) as (store, server):
            assert add(store)
            assert len(server.requests) == 2

    def test_one_that_has_learned_it_is_trusted(self, colour: Colour, time: Time) -> None:
        with served(colour, time, UNKEYED, ONE, close, ONE) as (store, server):
            for _ in range(3):
                assert add(store)
            assert len(server.requests) == 4


class TestTheErrorInTheEnd:
    def test_an_attempt_that_was_lost_is_not_forgotten(self, colour: Colour, time: Time) -> None:
        with served(colour, time, ONE, close, unavailable(429), unavailable(401)) as (store, _):
            add(store)
            with pytest.raises(HTTPError, match=r"status 401: .* Tried 3 times in 3\.0 s") as caught:
                add(store)
        assert caught.value.applied is None

    def test_nor_when_the_server_is_gone_in_the_end(self, colour: Colour, time: Time) -> None:
        def vanish(connection: Connection) -> None:
            connection.peer.listener.shutdown(socket.SHUT_RDWR)

        with served(colour, time, ONE, vanish) as (store, _):
            add(store)
            with pytest.raises(
                OutcomeUnknownError, match=r"Nothing was sent.*an earlier attempt.*Tried 12 times in"
            ) as caught:
                add(store)
        assert caught.value.applied is None
        assert isinstance(caught.value.__cause__, NotSentError)
        assert caught.value.__cause__.__cause__ is not None

    def test_nor_when_the_client_is_closed_meanwhile(self, colour: Colour, time: Time) -> None:
        with served(colour, time, ONE, close) as (store, _):
            add(store)
            sender = colour.sender(store)
            pause = sender._sleep

            def sleep(seconds: float) -> Any:
                sender._closed = True
                return pause(seconds)

            sender._sleep = sleep
            with pytest.raises(OutcomeUnknownError, match="this client is closed") as caught:
                add(store)
            sender._closed = False
        assert isinstance(caught.value.__cause__, UsageError)

    def test_a_server_that_never_was_there_was_sent_nothing(self, colour: Colour, time: Time) -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            store = colour.client(f"http://ann:{SECRET}@127.0.0.1:{bound.getsockname()[1]}")
            with pytest.raises(NotSentError, match=r"TASKSTORE_URL\)\? Tried 12 times in") as caught:
                add(time.rule(colour, store))
        assert caught.value.applied is False
        assert_no_secret(caught.value)

    def test_a_refusal_for_a_missing_task_was_one_from_the_beginning(self, colour: Colour, time: Time) -> None:
        with served(colour, time, ONE, close, REFUSED) as (store, _):
            add(store)
            with pytest.raises(TaskResponseError) as caught:
                store.update(deletes=[17])
        assert caught.value.applied is False

    def test_one_for_a_lease_may_be_overtaken_by_the_first_attempt(self, colour: Colour, time: Time) -> None:
        with served(colour, time, ONE, close, OWNED) as (store, _):
            add(store)
            with pytest.raises(OutcomeUnknownError, match=r"not the owner of task 17.*an earlier attempt") as caught:
                store.update(deletes=[17])
        assert caught.value.applied is None

    def test_pauses_are_told_to_the_log(self, colour: Colour, time: Time, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", "taskstore")
        with served(colour, time, close, unavailable(), http(b"[]")) as (store, _):
            colour.sender(store)._backoff_s = lambda attempts: attempts - 0.5
            store.groups()
        assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
        assert "once more in 0.50 s, for: GET" in caplog.text


class TestInterruptions:
    def test_an_interrupt_ends_it_at_once(self, colour: Colour, time: Time) -> None:
        def interrupted(seconds: float) -> None:
            raise KeyboardInterrupt

        with served(colour, time, close) as (store, server):
            colour.sender(store)._sleep = interrupted
            with pytest.raises(KeyboardInterrupt):
                store.groups()
            assert len(server.requests) == 1

    def test_a_task_that_is_cancelled_while_it_pauses_sends_nothing_more(self) -> None:
        async def cancel(url: str) -> None:
            async with AsyncHTTPClient(url) as store:
                sender: Any = store._sender
                sender._sleep = pause
                call = asyncio.create_task(store.groups())
                await pausing.wait()
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call

        async def pause(seconds: float) -> None:
            pausing.set()
            await asyncio.Event().wait()

        pausing = asyncio.Event()
        with peer(doing(close)) as server:
            asyncio.run(cancel(server.url))
            assert len(server.requests) == 1


class TestPauses:
    @given(st.integers(1, 10_000))
    def test_they_are_random_within_windows_that_double_up_to_five_seconds(self, attempts: int) -> None:
        assert 0 <= retries.full_jitter_s(attempts) <= min(0.05 * 2 ** min(attempts - 1, 10), 5)

    def test_they_use_all_of_the_window(self) -> None:
        drawn = [retries.full_jitter_s(20) for _ in range(1_000)]
        assert min(drawn) < 0.5
        assert max(drawn) > 4.5


CHANGE = wire.update(5, [TaskInfo("map")], (), (), (), key="k" * 32)
CLAIM = wire.claim(5, "map", timedelta(seconds=20), (), key="k" * 32)
READ = wire.groups()
PROBE = wire.update(5, (), (), (), (), key="p" * 32)


def lost() -> TaskStoreError:
    return OutcomeUnknownError("lost")


def not_sent() -> TaskStoreError:
    return NotSentError("not sent")


def http_error(status: int) -> Callable[[], TaskStoreError]:
    return lambda: HTTPError(status)


class World:
    """A server and a network in which this happens to one call after the other, and then nothing bad any more."""

    def __init__(
        self, call: wire.Call[Any], keeps_keys: bool, events: list[tuple[Callable[[], TaskStoreError], float]]
    ) -> None:
        self.call, self.events = call, events
        self.headers = {"idempotency-replayed": "false"} if keeps_keys else {}
        self.now_s = 0.0
        self.failed_s: float | None = None
        self.risked_s: float | None = None

    def attempt(self, call: wire.Call[Any]) -> retries.Tried:
        began_s = self.now_s
        body = b"[]" if call is READ else b'{"tasks":[%b],"error":null}' % (b"" if call is PROBE else TASK)
        outcome: wire.Answer | TaskStoreError = wire.Answer("x", 200, self.headers, body)
        if self.events:
            error, took_s = self.events.pop(0)
            outcome, self.now_s = call.failed(error()), self.now_s + took_s
            self.failed_s = self.now_s if self.failed_s is None else self.failed_s
            if outcome.applied is None and call is self.call and self.risked_s is None:
                self.risked_s = began_s
        return retries.Tried(outcome, began_s, self.now_s)


events = st.tuples(st.sampled_from([lost, not_sent, *map(http_error, (401, 429, 503))]), st.floats(0, 40))
worlds = st.builds(World, st.sampled_from([CHANGE, CLAIM, READ]), st.booleans(), st.lists(events))


@given(worlds, st.booleans(), st.floats(0, 1_000), st.floats(0, 100))
def test_in_every_story_nothing_is_done_twice_and_no_bound_is_passed(
    world: World, known: bool, budget_s: float, backoff_s: float
) -> None:
    knowledge = retries.Knowledge(bool(world.headers) if known else None)
    given = retries.Circumstances(budget_s, knowledge, lambda _: backoff_s, lambda: PROBE)
    plan, outcome, applied = retries.planned(world.call, world.attempt(world.call), given), None, None
    with contextlib.suppress(StopIteration):
        while True:
            try:
                wish = plan.send(outcome)
            except TaskStoreError as error:
                applied = error.applied
                break
            if isinstance(wish, retries.Pause):
                world.now_s += wish.seconds
                outcome = None
                continue
            assert world.failed_s is None or world.now_s <= world.failed_s + budget_s + 1e-6
            if wish.call is PROBE:
                assert world.risked_s is not None
                assert knowledge.keeps_keys is None
            elif world.risked_s is not None:
                assert knowledge.keeps_keys
                assert world.headers
                assert world.now_s < world.risked_s + (20 if world.call is CLAIM else 600)
            outcome = world.attempt(wish.call)
        assert applied is (False if world.risked_s is None else None)


def test_lost_replies_leave_exactly_one_effect(colour: Colour, time: Time) -> None:
    """Every other answer of a real server is lost on its way back."""
    with live_server() as behind:
        host, port = behind.url.removeprefix("http://").split(":")

        def relay(connection: Connection) -> None:
            while request := connection.request():
                with socket.create_connection((host, int(port))) as onward:
                    onward.sendall(request)
                    answer = b""
                    while not complete(answer):
                        answer += onward.recv(65_536)
                if len(connection.peer.requests) % 2:
                    return
                connection.send(answer)

        with peer(relay) as server:
            store = time.rule(colour, colour.client(server.url))
            for number in range(10):
                assert len(store.update(adds=[TaskInfo("map", str(number))])) == 1
            claimed = store.claim_batch("map", LEASE, 4) + [
                task for _ in range(6) if (task := store.claim("map", LEASE))
            ]
            assert sorted(int(task.data) for task in claimed) == list(range(10))
            done = store.step([TaskInfo("reduce", "x")], deletes=claimed, group="reduce", duration=LEASE)
            assert [task.data for task in done.claimed] == ["x"]
            assert store.groups() == ["reduce"]


def complete(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return bool(end) and length is not None and len(body) >= int(length[1])
