"""One identity per process: random, never a Go client's, and another one in a fork."""

import subprocess
import sys

import pytest
from conftest import in_a_fork

from taskstore import ID, HTTPClient, identity

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def test_a_process_keeps_its_id() -> None:
    assert ID() == ID()


def test_an_id_is_an_int32_above_those_of_the_go_clients() -> None:
    assert ID() in range(256, 2**31)


@pytest.mark.parametrize(("drawn", "id"), [(0, 256), (2**31 - 1 - 256, 2**31 - 1)])
def test_the_first_and_the_last_id_can_be_drawn(monkeypatch: pytest.MonkeyPatch, drawn: int, id: int) -> None:
    monkeypatch.setattr(identity, "_own", identity.ID())
    monkeypatch.setattr("secrets.randbelow", lambda end: drawn if drawn < end else pytest.fail("out of range"))
    identity._renew()
    assert ID() == id


def test_two_processes_have_different_ids() -> None:
    other = subprocess.run(
        [sys.executable, "-c", "import taskstore; print(taskstore.ID())"], capture_output=True, check=True
    )
    assert int(other.stdout) != ID()


def test_a_forked_child_has_an_id_of_its_own() -> None:
    before = ID()
    children = [in_a_fork(ID) for _ in range(3)]
    assert len({before, *children}) == 4
    assert ID() == before


def test_a_forked_child_never_draws_the_id_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter([ID() - 256, ID() - 256, 7])
    monkeypatch.setattr("secrets.randbelow", lambda end: next(draws))
    assert in_a_fork(ID) == 256 + 7


def test_a_client_takes_the_id_of_the_process_it_is_used_in() -> None:
    with HTTPClient() as store:
        assert store.client_id == ID()
        assert in_a_fork(lambda: store.client_id == ID() and store.client_id) not in {False, ID()}


def test_a_client_keeps_an_id_that_it_was_given() -> None:
    with HTTPClient(client_id=78) as store:
        assert store.client_id == 78
        assert in_a_fork(lambda: store.client_id) == 78
