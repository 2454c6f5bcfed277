"""The kit does no harm to a server that holds real data, whatever its rules and generators come up with."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tampering import serving, tamper

from taskstore.contract.connection import Connections, Request, Target
from taskstore.contract.dialect import DIALECTS
from taskstore.contract.gateway import LONGEST_NAME, Gateway
from taskstore.contract.naming import Renaming, content_of, renamed
from taskstore.contract.run import Kit, Settings, check
from taskstore.contract.show import Silent
from taskstore.contract.store import FAR, Ledger, Names, Store

REAL = ["map", "reduce", "a", "0", "None", "..", "check-", "ä"]
"""Groups that a generator comes up with sooner or later."""


@contextmanager
def store_at(url: str) -> Iterator[Store]:
    names = Names()
    store = Store(Connections(Target(url)), DIALECTS["json"], names, Ledger(names.prefix))
    yield store
    store.connections.close()


def test_a_whole_run_touches_nothing_but_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, str, dict[str, Any]]] = []
    tamper(monkeypatch, before=lambda call: calls.append((call.method, call.path, call.content)))
    with serving() as url, store_at(url) as owner:
        adds = [{"group": group, "data": group, "duration": when} for group in REAL for when in (0, 0, -(10**15))]
        real = owner.make(adds=adds)
        ids = {task.id for task in real}
        calls.clear()
        kit = Kit(Settings(url, level="full", seed=7, examples=20))
        verdicts = [*kit.semantics(), *kit.schema(Silent())]
        assert [kit.told(verdict) for verdict in verdicts if verdict.status == "fail"] == []
        assert kit.clean() == 0
        seen = list(calls)
        assert owner.tasks(*ids) == sorted(real)
        assert owner.groups(prefix="") == sorted(REAL)
        kit.connections.close()
    assert len(seen) > 2000
    for method, path, content in seen:
        assert_own(kit.names.prefix, ids, Request(method, path, json.dumps(content).encode() if content else None))


def assert_own(prefix: str, others: set[int], request: Request) -> None:
    """Make sure that a request names neither a group nor a task of somebody else."""

    def group(name: Any) -> Any:
        # Two rules only look: at the groups with the traps for names, and at one whose name cannot be decoded.
        is_a_probe = request.method == "GET" and name in (".", "..", "x")
        assert not isinstance(name, str) or name == "" or name.startswith(prefix) or is_a_probe, request
        return name

    def id(value: Any) -> Any:
        assert not isinstance(value, int) or value not in others, request
        return value

    renamed(request, Renaming(group, id))


def test_all_is_removed_also_when_a_run_is_interrupted() -> None:
    class Interrupting(Silent):
        def generating(self, phase: str, requests: int) -> None:
            if requests > 100:
                raise KeyboardInterrupt

    with serving() as url:
        with pytest.raises(KeyboardInterrupt):
            check(Settings(url, seed=1), Interrupting())
        with store_at(url) as store:
            assert store.groups(prefix="") == []


# The gateway: what fits the contract still does when it is passed on, and what does not still does not


@pytest.fixture(scope="module")
def gateway() -> Gateway:
    names = Names()
    gateway = Gateway(Connections(Target("http://127.0.0.1:9")), DIALECTS["json"], names, Ledger(names.prefix))
    gateway._listener.close()
    return gateway


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def is_id(value: Any) -> bool:
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return is_whole and not isinstance(value, bool) and -(2**63) <= value < 2**63


def is_group(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= LONGEST_NAME


@given(st.integers() | st.integers(-(2**63), 2**63 - 1) | JSON_VALUES)
def test_an_id_stays_one_and_is_nobodys(gateway: Gateway, value: Any) -> None:
    new = gateway._id(value)
    assert is_id(new) == is_id(value)
    assert not is_id(new) or new < 1 or new >= FAR


@given(st.text() | st.text(min_size=500, max_size=520) | JSON_VALUES)
def test_a_group_stays_one_and_is_ours(gateway: Gateway, value: Any) -> None:
    new = gateway._group(value)
    assert is_group(new) == is_group(value)
    assert new == "" or not isinstance(new, str) or new.startswith(gateway.common)
    assert gateway._group(new) == new or not isinstance(new, str)


@given(st.integers() | st.floats(allow_nan=False) | JSON_VALUES)
def test_a_wait_stays_one_and_is_short(gateway: Gateway, value: Any) -> None:
    def is_wait(value: Any) -> bool:
        return is_id(value) and 0 <= value <= 3600 * 10**9

    new = gateway._renaming.wait(value)
    assert is_wait(new) == is_wait(value)
    assert not is_wait(new) or new <= 2_000_000


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_name_in_a_path_gets_its_prefix_and_keeps_its_spelling(gateway: Gateway, name: str) -> None:
    for spelled in ("".join(f"%{byte:02x}" for byte in name.encode()), re.sub(r"[^a-z]", "", name)):
        path = renamed(Request("GET", f"/group/{spelled}?limit=1"), gateway._renaming).path
        if spelled:
            assert path.endswith(f"{spelled}?limit=1") or len(name) + len(gateway.common) > LONGEST_NAME
            assert unquote(path).startswith(f"/group/{gateway.common}")
        else:
            assert path == "/group/?limit=1"


def test_what_a_form_holds_is_renamed_too(gateway: Gateway) -> None:
    request = DIALECTS["go"].post("update", {"clientid": 1, "adds": [{"group": "map"}], "deletes": [17, 1.5, "17"]})
    content = content_of(renamed(request, gateway._renaming))
    assert content is not None
    assert content["adds"][0]["group"] == f"{gateway.common}map"
    assert content["deletes"][0] == FAR + 17
    assert not is_id(content["deletes"][1])
    assert content["deletes"][2] == str(FAR + 17)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b'"x"', b"[" * 100_000])
def test_what_is_no_request_passes_as_it_is(gateway: Gateway, body: bytes) -> None:
    request = Request("POST", "/update", body)
    assert renamed(request, gateway._renaming) == request
