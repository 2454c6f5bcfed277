"""Our own server keeps the contract, by our own kit: every rule, and all that openapi.yaml says.

Of Schemathesis all phases run and all default checks are on; nothing is left out. That the kit would notice is shown in
tests/contract.
"""

from collections.abc import Iterator
from threading import Event, Thread

import pytest

from taskstore.contract.run import Kit, Settings
from taskstore.contract.schema import SENTENCES
from taskstore.contract.show import Silent
from taskstore.server.run import RunningServer, bound, open_storage


@pytest.fixture
def url() -> Iterator[str]:
    """A server with an empty store, and with the system's clock, since the kit has no other."""
    server = RunningServer(open_storage(":memory:"), bound("127.0.0.1", 0))
    started = Event()
    server.on_start = started.set
    thread = Thread(target=server.run, name="server under test")
    thread.start()
    assert started.wait(30)
    yield server.url
    server.stop()
    thread.join()


@pytest.fixture
def kit(url: str) -> Iterator[Kit]:
    kit = Kit(Settings(url, level="full"))
    yield kit
    assert kit.clean() == 0
    assert kit.store("afterwards").groups(prefix="") == []
    kit.connections.close()


def test_our_server_keeps_every_rule(kit: Kit) -> None:
    verdicts = list(kit.semantics())
    assert {verdict.rule for verdict in verdicts} == {rule.name for rule in kit.rules()}
    assert [kit.told(verdict) for verdict in verdicts if verdict.status == "fail"] == []
    assert [verdict.rule for verdict in verdicts if verdict.status == "absent"] == []


@pytest.mark.parametrize("level", ["core", "full"])
def test_our_server_answers_as_openapi_says(url: str, level: str) -> None:
    kit = Kit(Settings(url, level=level))
    phases: list[str] = []

    class Noting(Silent):
        def generating(self, phase: str, requests: int) -> None:
            phases.append(phase)

    verdicts = kit.schema(Noting())
    assert [kit.told(verdict) for verdict in verdicts if verdict.status == "fail"] == []
    assert {"examples", "coverage", "fuzzing", "stateful"} <= set(phases)
    assert {verdict.rule for verdict in verdicts} >= SENTENCES.keys() - {"ignored-auth"}
    assert all(verdict.requests > 100 for verdict in verdicts)
    assert kit.clean() == 0
    kit.connections.close()
