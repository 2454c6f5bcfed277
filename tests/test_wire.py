"""Calls and answers: what is sent fits the contract, and what does not fit it is never taken for a result."""

import contextlib
import json
from collections.abc import Callable
from datetime import timedelta
from itertools import count, pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import attrs
import httpx
import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from taskstore import (
    AnswerError,
    Counters,
    GroupStats,
    HTTPError,
    Stats,
    Step,
    TaskInfo,
    TaskResponseError,
    TaskStoreError,
    Totals,
    UsageError,
    wire,
)
from taskstore.model import LONGEST_NS

CONTRACT = yaml.safe_load((Path(__file__).parents[1] / "openapi.yaml").read_text())
RAW = {"id": 17, "group": "map", "data": "hello", "duration": 1795488673716052434, "ownerid": 734512}
TASK = TaskInfo("map", "hello", timespec=1795488673716052434, id=17, owner_id=734512)
REFUSAL: dict[str, list[Any]] = {"changes": [1], "deletes": [2], "depends": [3], "owned": [4], "bugs": ["why"]}

GROUPS, GROUP, ONE = wire.groups(), wire.group("map", 0, owned=False), wire.task(17)
TWO = next(wire.tasks([17, 18]))
CLAIM, ADD = wire.claim(5, "map", 1, ()), wire.update(5, [TASK], (), (), ())
BATCH = wire.claim_batch(5, ["map", "reduce"], 1, 2, ())
STATS = wire.stats("", 0)
RAW_STATS: dict[str, Any] = {
    "groups": [{"group": "map", "available": 2, "owned": 1, "delayed": 0, "oldest_age": 1_500_000_001}],
    "totals": {"groups": 1, "available": 2, "owned": 1, "delayed": 0},
    "counters": {"adds": 3, "claims": 1, "updates": 2, "deletes": 4, "conflicts": 5, "expired": 6},
}


def a_step(*update: Any, **claim: Any) -> wire.Call[Step]:
    claim = {"groups": None, "duration": None, "limit": 1, "wait": 0, "depends": (), **claim}
    adds, updates, deletes, depends = (*update, (), (), (), ())[:4]
    return wire.step(5, (adds, updates, deletes, depends), **claim)


STEP = a_step([TASK], groups="map", duration=1)
EACH: dict[str, wire.Call[Any]] = {
    "groups": GROUPS,
    "group": GROUP,
    "task": ONE,
    "tasks": TWO,
    "claim": CLAIM,
    "claim_batch": BATCH,
    "update": ADD,
    "step": STEP,
    "stats": STATS,
}

untyped: Any = wire
"""As somebody sees it who runs no type checker."""

texts = st.text(st.characters(exclude_categories=["Cs"]))
groups = st.one_of(texts, st.text("./%?#\\", max_size=4), st.sampled_from([".", "..", "a/../b"])).filter(bool)
ids = st.integers(-(2**63), 2**63 - 1)
infos = st.builds(TaskInfo, groups, texts, st.integers(-LONGEST_NS, 2**63 - 1), ids.filter(bool))
client_ids = st.integers(-(2**31), 2**31 - 1)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*RAW, *REFUSAL, *RAW_STATS, "tasks", "updated", "error", "attempts"]), inner)
    ),
    max_leaves=10,
)


def answer(body: object, status: int = 200, content_type: str = "application/json") -> wire.Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return wire.Answer("GET http://127.0.0.1:8048/x", status, {"content-type": content_type}, raw)


def fits(schema: str, value: object) -> None:
    jsonschema.validate(value, {"$ref": f"#/components/schemas/{schema}", "components": CONTRACT["components"]})


class TestWhatIsSent:
    def test_reads_are_gets(self) -> None:
        assert GROUPS.request == {"method": "get", "url": "/groups"}
        assert ONE.request == {"method": "get", "url": "/task/17"}
        assert TWO.request == {"method": "get", "url": "/tasks/17,18"}
        assert GROUP.request["url"] == "/group/map"

    @pytest.mark.parametrize(("owned", "sent"), [(True, "true"), (False, "false")])
    def test_a_group_is_asked_for_in_the_words_of_the_contract(self, owned: bool, sent: str) -> None:
        params = wire.group("map", 10, owned=owned).request["params"]
        assert params == {"limit": 10, "owned": sent}
        fits("Owned", params["owned"])
        fits("Limit", params["limit"])

    @given(groups)
    def test_a_group_of_any_name_is_one_step_of_the_path(self, name: str) -> None:
        url = httpx.URL("http://127.0.0.1:8048" + wire.group(name, 0, owned=False).request["url"])
        step, root, encoded = url.raw_path.decode().split("/")
        assert (step, root, unquote(encoded)) == ("", "group", name)
        assert encoded not in {".", ".."}

    @given(client_ids, groups, st.integers(0, LONGEST_NS), st.lists(ids))
    def test_a_claim_fits_the_contract(self, client_id: int, group: str, duration: int, depends: list[int]) -> None:
        request = wire.claim(client_id, group, duration, depends).request
        assert (request["method"], request["url"]) == ("post", "/claim")
        assert request["json"] == {"clientid": client_id, "group": group, "duration": duration, "depends": depends}
        fits("ClaimRequest", request["json"])

    @given(client_ids, st.lists(infos), st.lists(infos), st.lists(infos | ids), st.lists(infos | ids))
    def test_an_update_fits_the_contract(
        self,
        client_id: int,
        adds: list[TaskInfo],
        updates: list[TaskInfo],
        deletes: list[TaskInfo | int],
        depends: list[TaskInfo | int],
    ) -> None:
        request = wire.update(client_id, iter(adds), iter(updates), iter(deletes), iter(depends)).request
        assert (request["method"], request["url"]) == ("post", "/update")
        assert request["json"] == {
            "clientid": client_id,
            "adds": [{"group": task.group, "data": task.data, "duration": task.timespec} for task in adds],
            "updates": [{"id": task.id, "data": task.data, "duration": task.timespec} for task in updates],
            "deletes": [task if isinstance(task, int) else task.id for task in deletes],
            "depends": [task if isinstance(task, int) else task.id for task in depends],
        }
        fits("UpdateRequest", request["json"])
        assert json.loads(json.dumps(request["json"], ensure_ascii=False).encode()) == request["json"]

    @given(st.lists(groups, min_size=1) | groups, st.integers(1, 10_000), st.integers(0, 3_600 * 10**9), st.lists(ids))
    def test_what_a_claim_does_not_need_is_not_sent(
        self, names: list[str] | str, limit: int, wait: int, depends: list[int]
    ) -> None:
        call = wire.claim_batch(5, names, 1, limit, depends, wait=wait)
        sent = dict(call.request["json"])
        fits("ClaimRequest", sent)
        assert sent.pop("limit", 1) == limit
        assert sent.pop("wait", 0) == wait == call.wait_ns
        assert sent.pop("groups", [sent.pop("group", None)]) == list(
            dict.fromkeys([names] if names == str(names) else names)
        )
        assert sent == {"clientid": 5, "duration": 1, "depends": depends}
        if names == str(names):
            assert (
                wire.claim(5, names, 1, depends, wait=wait).request
                == wire.claim_batch(5, names, 1, 1, depends, wait=wait).request
            )

    @given(st.tuples(st.lists(infos), st.lists(infos), st.lists(infos | ids), st.lists(infos | ids)), groups)
    def test_a_step_is_an_update_and_a_claim(self, update: tuple[Any, ...], name: str) -> None:
        call = a_step(*update, groups=name, duration=30, limit=2, wait=7, depends=[9])
        assert (call.request["method"], call.request["url"], call.wait_ns) == ("post", "/step", 7)
        sent = call.request["json"]
        fits("StepRequest", sent)
        claim = wire.claim_batch(5, name, 30, 2, [9], wait=7).request["json"]
        assert {"clientid": 5, **sent["claim"]} == claim
        if any(update):
            assert {"clientid": 5, **sent["update"]} == untyped.update(5, *update).request["json"]
        else:
            assert sent["update"] is None

    def test_a_step_may_be_half_of_it(self) -> None:
        assert a_step(groups="map", duration=1).request["json"]["update"] is None
        assert a_step([TASK]).request["json"]["claim"] is None
        fits("StepRequest", a_step([TASK]).request["json"])

    def test_counts_are_asked_for_by_prefix(self) -> None:
        request = wire.stats("ma/p", 10).request
        assert request == {"method": "get", "url": "/stats", "params": {"prefix": "ma/p", "limit": 10}}

    def test_a_duration_may_be_a_timedelta(self) -> None:
        assert wire.claim(5, "map", timedelta(seconds=30), ()).request["json"]["duration"] == 30_000_000_000

    def test_no_ids_are_no_call(self) -> None:
        assert list(wire.tasks([])) == []

    @given(st.lists(ids, min_size=1, max_size=3), st.integers(1, 5_000))
    def test_many_ids_are_asked_for_in_order_and_in_parts_that_fit(self, some: list[int], times: int) -> None:
        asked = some * times
        parts = [call.request["url"].removeprefix("/tasks/") for call in wire.tasks(asked)]
        assert [int(id) for part in parts for id in part.split(",")] == asked
        assert all(len(part) <= 7_000 for part in parts)
        # As few as can be: what begins a part did not fit the one before it.
        assert all(len(part) + len(following.split(",")[0]) + 1 > 7_000 for part, following in pairwise(parts))
        for part in parts:
            fits("TaskIds", part)

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: untyped.group("", 0, owned=False), "must not be empty"),
            (lambda: untyped.group("\udc80", 0, owned=False), "lone surrogate"),
            (lambda: untyped.group("map", -1, owned=False), "limit=-1 has to be from 0"),
            (lambda: untyped.group("map", 2**31, owned=False), "limit"),
            (lambda: untyped.group("map", True, owned=False), "limit has to be an int, not bool"),
            (lambda: untyped.task("17"), "id has to be an int, not str: '17'"),
            (lambda: untyped.task(TaskInfo("map")), "is not stored; take the task that `update` returned"),
            (lambda: untyped.tasks([1, 2.0]), "id has to be an int, not float"),
            (lambda: untyped.claim(5, "map", -1, ()), "cannot end before it begins"),
            (lambda: untyped.claim(5, "map", 30.0, ()), "has no unit"),
            (lambda: untyped.claim(5, "map", 1, 17), "depends has to be a list, or another iterable, not 17"),
            (lambda: untyped.claim(5, "map", 1, [2**63]), "depends=9223372036854775808 does not fit 64 bits"),
            (lambda: untyped.claim(5, [], 1, ()), "needs a group to claim from"),
            (lambda: untyped.claim(5, ["map", ""], 1, ()), "must not be empty"),
            (lambda: untyped.claim(5, ["map", 5], 1, ()), "group has to be a str, not int"),
            (lambda: untyped.claim(5, 5, 1, ()), "group has to be a list, or another iterable, not 5"),
            (lambda: untyped.claim(5, "map", 1, (), wait=-1), "wait is -1 ns, and has to be from 0 to an hour"),
            (lambda: untyped.claim(5, "map", 1, (), wait=timedelta(hours=1, microseconds=1)), "wait is"),
            (lambda: untyped.claim(5, "map", 1, (), wait=1.0), "wait=1.0 has no unit"),
            (lambda: untyped.claim_batch(5, "map", 1, 0, ()), "limit=0 has to be from 1 to 10000"),
            (lambda: untyped.claim_batch(5, "map", 1, 10_001, ()), "limit=10001 has to be from 1"),
            (lambda: untyped.claim_batch(5, "map", 1, True, ()), "limit has to be an int, not bool"),
            (lambda: a_step(groups="map"), "needs a duration"),
            (lambda: a_step(groups=[], duration=1), "needs a group to claim from"),
            (lambda: a_step(duration=1), "a step without a group claims nothing"),
            (lambda: a_step(limit=2), "a step without a group claims nothing"),
            (lambda: a_step(wait=1), "a step without a group claims nothing"),
            (lambda: a_step(depends=[1]), "a step without a group claims nothing"),
            (lambda: a_step([5]), "adds takes TaskInfo, not 5"),
            (lambda: untyped.stats(5, 0), "prefix has to be a str"),
            (lambda: untyped.stats("", -1), "limit=-1 has to be from 0"),
            (lambda: untyped.update(5, TASK, (), (), ()), "adds has to be a list, or another iterable, not TaskInfo"),
            (lambda: untyped.update(5, ["map"], (), (), ()), "adds takes TaskInfo, not 'map'"),
            (lambda: untyped.update(5, (), [17], (), ()), "updates takes TaskInfo, not 17"),
            (lambda: untyped.update(5, (), [TaskInfo("map")], (), ()), "updates: .* has no id"),
            (lambda: untyped.update(5, (), (), [TaskInfo("map")], ()), "deletes: .* has no id"),
            (lambda: untyped.update(5, (), (), "17", ()), "deletes has to be an int, not str"),
        ],
        ids=count(),
    )
    def test_what_makes_no_sense_is_refused_with_a_hint(self, call: Callable[[], object], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            call()


class TestWhatIsRead:
    def test_each_operation_reads_what_the_contract_shows(self) -> None:
        assert GROUPS.result(answer(["map", "reduce"])) == ["map", "reduce"]
        assert GROUP.result(answer([RAW])) == [TASK]
        assert ONE.result(answer(RAW)) == TASK
        assert TWO.result(answer([RAW, None])) == [TASK, None]
        assert CLAIM.result(answer({"tasks": [RAW], "error": None})) == TASK
        assert BATCH.result(answer({"tasks": [RAW, RAW], "error": None})) == [TASK, TASK]
        assert ADD.result(answer({"tasks": [RAW], "error": None})) == [TASK]
        step = {"tasks": [RAW], "updated": [{**RAW, "id": 18}], "error": None}
        assert STEP.result(answer(step)) == Step((TASK,), (attrs.evolve(TASK, id=18),))
        assert STATS.result(answer(RAW_STATS)) == Stats(
            (GroupStats("map", 2, 1, 0, 1_500_000_001),), Totals(1, 2, 1, 0), Counters(3, 1, 2, 4, 5, 6)
        )

    def test_nothing_is_a_value(self) -> None:
        assert ONE.result(answer(None)) is None
        assert GROUPS.result(answer([])) == []
        assert GROUP.result(answer([])) == []
        assert CLAIM.result(answer({"tasks": [], "error": None})) is None
        assert BATCH.result(answer({"tasks": [], "error": None})) == []

    def test_attempts_are_read_where_they_are_told(self) -> None:
        assert ONE.result(answer({**RAW, "attempts": 3})) == attrs.evolve(TASK, attempts=3)
        assert ONE.result(answer(RAW)) == attrs.evolve(TASK, attempts=0)

    def test_null_is_an_empty_list(self) -> None:
        assert GROUPS.result(answer(None)) == []
        assert GROUP.result(answer(None)) == []
        assert CLAIM.result(answer({"tasks": None, "error": None})) is None

    def test_what_the_published_go_server_answers_can_be_read(self) -> None:
        assert CLAIM.result(answer(b'{"Tasks":null,"Error":null}')) is None
        with pytest.raises(TaskResponseError) as refused:
            CLAIM.result(
                answer(b'{"Tasks":null,"Error":{"Changes":[99],"Deletes":null,"Depends":[],"Owned":[3],"Bugs":[{}]}}')
            )
        assert (refused.value.changes, refused.value.owned) == ((99,), (3,))
        assert refused.value.bugs == ("the server does not say which ({})",)

    @given(st.randoms(use_true_random=False), st.booleans())
    def test_keys_may_have_any_letter_case(self, random: Any, refused: bool) -> None:
        def recased(value: Any) -> Any:
            if isinstance(value, dict):
                return {"".join(random.choice([c.lower(), c.upper()]) for c in k): recased(v) for k, v in value.items()}
            return [recased(item) for item in value] if isinstance(value, list) else value

        assert ONE.result(answer(recased(RAW))) == TASK
        assert ADD.result(answer(recased({"tasks": [RAW], "error": None}))) == [TASK]
        with pytest.raises(TaskResponseError) as caught:
            ADD.result(answer(recased({"tasks": [], "error": REFUSAL})))
        assert (caught.value.deletes, caught.value.bugs) == ((2,), ("why",))

    def test_where_there_is_only_json_it_does_as_well(self, monkeypatch: pytest.MonkeyPatch) -> None:
        value = {"é": [1, None, 2**63 - 1, '"\n\0', 1.5, True]}
        texts = []
        for quick in (wire._quick, None):
            monkeypatch.setattr(wire, "_quick", quick)
            texts.append(wire.written(value))
            assert wire._parsed(texts[-1]) == value
        assert texts[0] == texts[1] == '{"é":[1,null,9223372036854775807,"\\"\\n\\u0000",1.5,true]}'.encode()

    def test_unknown_fields_are_ignored(self) -> None:
        assert ONE.result(answer({**RAW, "tries": 3, "Colour": "red"})) == TASK

    def test_of_two_keys_that_differ_in_case_the_one_of_the_contract_counts(self) -> None:
        assert ONE.result(answer({"ID": 99, **RAW, "Id": 98})) == TASK

    @given(infos.filter(lambda task: task.id > 0 and task.timespec > 0), client_ids)
    def test_no_value_is_altered_on_its_way(self, task: TaskInfo, owner: int) -> None:
        raw = {"id": task.id, "group": task.group, "data": task.data, "duration": task.timespec, "ownerid": owner}
        fits("Task", raw) if len(task.group) <= 512 else None
        read = ONE.result(answer(raw))
        assert read == TaskInfo(task.group, task.data, task.timespec, task.id, owner)

    def test_a_refusal_names_the_culprits(self) -> None:
        for call in (CLAIM, BATCH, ADD):
            with pytest.raises(TaskResponseError) as refused:
                call.result(answer({"tasks": [], "error": REFUSAL}))
            assert vars(refused.value) == {key: tuple(culprits) for key, culprits in REFUSAL.items()}


class TestWhatDoesNotFit:
    @pytest.mark.parametrize(
        ("call", "body", "message"),
        [
            (GROUPS, {"map": 1}, r"expected a list at \$, got {'map': 1}"),
            (GROUPS, "map", r"expected a list at \$, got 'map'"),
            (GROUPS, ["map", 5], r"\$\[1\] has to be a str, not int: 5"),
            (GROUPS, b'["\\ud800"]', r"\$\[0\] holds a lone surrogate"),
            (GROUP, RAW, r"expected a list at \$"),
            (GROUP, [RAW, None], r"expected an object at \$\[1\], got None"),
            (GROUP, [[["id", 17]]], r"expected an object at \$\[0\]"),
            (GROUP, [RAW, {**RAW, "data": None}], r"expected a task at \$\[1\]: data has to be a str"),
            (ONE, [], r"expected an object at \$, got \[\]"),
            (ONE, {**RAW, "id": True}, "id has to be an int, not bool"),
            (ONE, {**RAW, "id": 17.0}, "id has to be an int, not float"),
            (ONE, {**RAW, "id": "17"}, "id has to be an int, not str"),
            (ONE, {**RAW, "id": 0}, "expected id and duration from 1 on"),
            (ONE, {**RAW, "id": 2**63}, "does not fit 64 bits"),
            (ONE, {**RAW, "group": ""}, "must not be empty"),
            (ONE, {**RAW, "duration": 1.5e18}, "timespec=1.5e"),
            (ONE, {**RAW, "duration": -30}, "expected id and duration from 1 on"),
            (ONE, {**RAW, "ownerid": 2**31}, "does not fit 32 bits"),
            (ONE, {**RAW, "data": ["x" * 10_000]}, "data has to be a str"),
            (ONE, b'{"id":17,"group":"map","data":"\\udc80","duration":1,"ownerid":1}', "data holds a lone surrogate"),
            (
                ONE,
                {key: RAW[key] for key in RAW if key != "data"},
                r"the field 'data' is missing at \$, in {.*'id': 17",
            ),
            (TWO, None, r"expected 2 elements at \$, got 0"),
            (TWO, [RAW], r"expected 2 elements at \$, got 1"),
            (TWO, [RAW, None, None], r"expected 2 elements at \$, got 3"),
            (TWO, [RAW, 5], r"expected an object at \$\[1\], got 5"),
            (CLAIM, [], r"expected an object at \$"),
            (CLAIM, {}, r"the field 'tasks' is missing at \$"),
            (CLAIM, {"tasks": []}, r"the field 'error' is missing at \$"),
            (CLAIM, {"tasks": "", "error": None}, r"expected a list at \$.tasks, got ''"),
            (CLAIM, {"tasks": {}, "error": None}, r"expected a list at \$.tasks, got {}"),
            (CLAIM, {"tasks": [RAW, {"id": 1}], "error": None}, r"the field 'group' is missing at \$.tasks\[1\]"),
            (CLAIM, {"tasks": [RAW, RAW], "error": None}, r"expected at most 1 elements at \$.tasks, got 2"),
            (CLAIM, {"tasks": [{**RAW, "group": "x"}], "error": None}, r"a group that was asked for at \$.tasks\[0\]"),
            (BATCH, {"tasks": [RAW] * 3, "error": None}, r"expected at most 2 elements at \$.tasks, got 3"),
            (
                BATCH,
                {"tasks": [RAW, {**RAW, "group": "x"}], "error": None},
                r"asked for at \$.tasks\[1\], got TaskInfo",
            ),
            (STEP, {"tasks": [], "error": None}, r"the field 'updated' is missing at \$"),
            (STEP, {"tasks": [], "updated": [], "error": None}, r"expected 1 elements at \$.updated, got 0"),
            (STEP, {"tasks": [RAW, RAW], "updated": [RAW], "error": None}, "expected at most 1 elements at"),
            (STEP, {"tasks": [], "updated": [5], "error": None}, r"expected an object at \$.updated\[0\], got 5"),
            (STEP, {"tasks": [], "updated": [], "error": []}, r"expected an object at \$.error"),
            (a_step([TASK]), {"tasks": [RAW], "updated": [RAW], "error": None}, r"expected at most 0 elements at"),
            (ONE, {**RAW, "attempts": None}, "attempts has to be an int, not NoneType"),
            (ONE, {**RAW, "attempts": -1}, "attempts=-1 has to be 0 or more"),
            (ONE, {**RAW, "attempts": 2**31}, "attempts=2147483648 does not fit 32 bits"),
            (STATS, [], r"expected an object at \$"),
            (STATS, {**RAW_STATS, "groups": {}}, r"expected a list at \$.groups, got {}"),
            (STATS, {**RAW_STATS, "groups": [{"group": "map"}]}, r"'available' is missing at \$.groups\[0\]"),
            (STATS, {**RAW_STATS, "totals": None}, r"expected an object at \$.totals"),
            (STATS, {**RAW_STATS, "totals": {**RAW_STATS["totals"], "owned": -1}}, r"\$.totals.owned=-1 has to be 0"),
            (
                STATS,
                {**RAW_STATS, "counters": dict.fromkeys(RAW_STATS["counters"])},
                r"\$.counters.adds has to be an int",
            ),
            (CLAIM, {"tasks": [], "error": "no"}, r"expected an object at \$.error, got 'no'"),
            (CLAIM, {"tasks": [], "error": False}, r"expected an object at \$.error, got False"),
            (CLAIM, {"tasks": [], "error": {}}, r"the field 'changes' is missing at \$.error"),
            (CLAIM, {"tasks": [], "error": {**REFUSAL, "owned": 4}}, r"expected a list at \$.error.owned, got 4"),
            (CLAIM, {"tasks": [], "error": {**REFUSAL, "owned": [4.0]}}, r"\$.error.owned has to be an int, not float"),
            (CLAIM, {"tasks": [], "error": {**REFUSAL, "bugs": "why"}}, r"expected a list at \$.error.bugs"),
            (CLAIM, {"tasks": [], "error": dict.fromkeys(REFUSAL)}, r"\$.error names no culprit"),
            (ADD, {"tasks": [], "error": None}, r"expected 1 elements at \$.tasks, got 0"),
            (ADD, {"tasks": [RAW, RAW], "error": None}, r"expected 1 elements at \$.tasks, got 2"),
        ],
    )
    def test_it_is_said_what_was_expected_and_where(self, call: wire.Call[Any], body: object, message: str) -> None:
        with pytest.raises(AnswerError, match=message) as caught:
            call.result(answer(body))
        assert str(caught.value).startswith("GET http://127.0.0.1:8048/x: the answer does not fit the contract: ")
        assert caught.value.__cause__ is not None
        assert len(str(caught.value)) < 1_000

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b"", "Expecting value.*begins with ''"),
            (
                b"<html><title>Sign in</title><body>Welcome to <b>Caf\xc3\xa9</b> WiFi",
                "begins with 'Sign in Welcome to Café WiFi'",
            ),
            (b"{'id': 17}", "begins with \"{'id': 17}\""),
            (b'{"id":17', "Expecting ',' delimiter"),
            (b"\xff\xfe", "can't decode byte 0xff"),
            ('["map"]'.encode("utf-16"), "can't decode byte"),
            (b"[" * 100_000, "recursion"),
            (b"[" + b"9" * 5_000 + b"]", "limit"),
        ],
        ids=lambda value: None if isinstance(value, str) else repr(value[:10]),
    )
    def test_what_is_not_json_is_shown(self, body: bytes, message: str) -> None:
        with pytest.raises(AnswerError, match=message):
            GROUPS.result(answer(body))

    @given(st.sampled_from(list(EACH)), values)
    def test_whatever_is_answered_is_a_result_or_one_of_our_errors(self, name: str, value: Any) -> None:
        try:
            result = EACH[name].result(answer(value))
        except (AnswerError, TaskResponseError):
            return
        if name in {"claim", "claim_batch", "update", "step"}:
            assert value["error"] is None
        assert result in (None, [], value) or name != "groups"

    @given(st.sampled_from(list(EACH)), st.binary(max_size=20))
    def test_whatever_bytes_come_are_no_crash(self, name: str, body: bytes) -> None:
        with contextlib.suppress(AnswerError):
            EACH[name].result(answer(body))

    def test_a_read_has_changed_nothing_whatever_came_back(self) -> None:
        for call, applied in ((ONE, False), (STATS, False), (CLAIM, None), (ADD, None), (STEP, None)):
            with pytest.raises(AnswerError) as misfit:
                call.result(answer(b""))
            with pytest.raises(HTTPError) as unavailable:
                call.result(answer(b"", status=503))
            assert misfit.value.applied is unavailable.value.applied is applied


class TestOtherStatuses:
    @pytest.mark.parametrize("status", [101, 201, 204, 301, 308, 400, 401, 404, 418, 422, 500, 502, 503, 520, 599, 999])
    def test_each_is_an_http_error(self, status: int) -> None:
        for call in EACH.values():
            with pytest.raises(HTTPError) as caught:
                call.result(answer([RAW], status))
            assert caught.value.status == status
            assert caught.value.request == "GET http://127.0.0.1:8048/x"

    @pytest.mark.parametrize(
        ("content_type", "body", "detail"),
        [
            (
                "application/problem+json",
                {"type": "about:blank", "title": "Unprocessable Content", "status": 422, "detail": "not at $.adds[0]"},
                "not at $.adds[0]",
            ),
            ("application/problem+json; charset=utf-8", {"title": "No"}, '{"title": "No"}'),
            (
                "application/problem+json",
                {"type": "", "title": "", "status": 1, "detail": ["x"]},
                '{"type": "", "title"',
            ),
            ("application/problem+json", b"{", "{"),
            ("application/json", [], "[]"),
            ("text/plain", b"no data\r\nprovided\t\x1b[31mhere", "no data provided ?[31mhere"),
            ("", b"", ""),
            (
                "text/html",
                b"<style>b {}</style><title>502</title><script>if (a < b)</script><h1>Bad&nbsp;Gateway</h1><!-- x -->",
                "502 Bad Gateway",
            ),
            ("text/html", b"<title>Error</title><style>" + b".a{b:c}" * 10_000, "Error"),
            ("text/plain", b"\xff\xfe!", "\ufffd\ufffd!"),
        ],
    )
    def test_it_is_said_what_the_server_says_and_no_soup(self, content_type: str, body: object, detail: str) -> None:
        with pytest.raises(HTTPError) as caught:
            ONE.result(answer(body, 422, content_type))
        assert caught.value.detail.startswith(detail)
        assert "<" not in caught.value.detail

    def test_a_long_text_is_shortened(self) -> None:
        with pytest.raises(HTTPError) as caught:
            ONE.result(answer(b"word " * 1_000_000, 500))
        assert len(caught.value.detail) < 400
        assert caught.value.detail.endswith("...")

    def test_a_redirect_says_what_to_do(self) -> None:
        with pytest.raises(HTTPError, match=r"status 308: .*redirects are not followed: give the address") as caught:
            ONE.result(answer(b"<a href=/elsewhere>", 308))
        assert isinstance(caught.value, TaskStoreError)
