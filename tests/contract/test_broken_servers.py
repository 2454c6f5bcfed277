"""The kit is itself proven: each broken server of the catalogue is caught, by the rule that is meant to catch it.

A run that names these tests, as `pytest tests/contract`, tries all rules on each of the servers, and in the end prints
the matrix of faults against rules (tests/conftest.py). A run of all tests tries only the rules that are meant to.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import faults_of_additions
import faults_of_reads
import faults_of_writes
import pytest
from faults import FAULTS, Fault
from tampering import serving

from taskstore.contract import run
from taskstore.contract.report import Verdict
from taskstore.contract.rules import RULES, additions
from taskstore.contract.run import Kit, Settings
from taskstore.contract.schema import ORACLE, load_contract
from taskstore.contract.show import Silent

ROOMS = (faults_of_writes, faults_of_reads, faults_of_additions)
SCHEMA = {
    "undocumented-status": ("status-code-conformance", r"/update"),
    "undocumented-content-type": ("content-type-conformance", r"/groups?|/group/.*|/tasks/.*"),
    "field-missing": ("response-schema-conformance", r"/update"),
    "server-error-on-a-huge-integer": ("not-a-server-error", r"/claim|/tasks/.*"),
    "any-method-taken": ("unsupported-method", r"/groups?|/group/.*|/tasks/.*"),
    "nonsense-in-an-address-is-nothing": ("negative-data-rejection", r".*"),
    "null-lists-rejected": ("positive-data-acceptance", r"/claim"),
    "consumed-id-served": (ORACLE, r".*"),
    "ids-in-pairs": (ORACLE, r"/update"),
}
"""Faults that the generated requests have to find, too, the check that has to, and the paths of which it takes some."""


def verdicts_on(
    fault: Fault, judge: Callable[[Kit], Iterable[Verdict]], rules: Collection[str] | None = None
) -> dict[str, Verdict]:
    """How a server with a fault fares."""
    with pytest.MonkeyPatch.context() as patch:
        fault.plant(patch)
        patch.setattr(additions, "LONG", 4)  # A claim that nothing ends shall not hold up all tests for so long.
        with serving(tick_ns=fault.tick_ns) as url:
            kit = Kit(Settings(url, level=fault.level, seed=1, shrink=False, examples=5, rules=rules))
            try:
                return {verdict.rule: verdict for verdict in judge(kit)}
            finally:
                kit.connections.close()


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_caught_by_the_rule_that_is_meant_to(
    name: str, matrix: bool, record_property: Callable[[str, object], None]
) -> None:
    fault = FAULTS[name]

    def judge(kit: Kit) -> Iterator[Verdict]:
        verdicts = list(kit.semantics())
        yield from verdicts
        missed = [verdict.rule for verdict in verdicts if verdict.rule in fault.rules and verdict.status != "fail"]
        for salt in range(1, fault.tries):
            again = [kit.check(RULES[rule], f" {salt}") for rule in missed]
            yield from again
            missed = [verdict.rule for verdict in again if verdict.status != "fail"]

    verdicts = verdicts_on(fault, judge, None if matrix else fault.rules)
    broken = [rule for rule in RULES if rule in verdicts and verdicts[rule].status == "fail"]
    record_property("fault", json.dumps({"name": name, "meant": fault.rules, "broken": broken}))
    missed = [rule for rule in fault.rules if rule not in broken]
    assert not missed, f"{name} was not caught by {missed}, but by {broken}"


@pytest.mark.parametrize("name", SCHEMA)
def test_generated_requests_find_what_a_schema_can_say(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check, paths = SCHEMA[name]
    monkeypatch.setattr(run, "load_contract", lambda: only(load_contract(), paths))
    verdicts = verdicts_on(FAULTS[name], lambda kit: kit.schema(Silent()))
    broken = [rule for rule, verdict in verdicts.items() if verdict.status == "fail"]
    assert check in broken
    assert all(verdicts[rule].steps for rule in broken)


def only(contract: dict[str, Any], paths: str) -> dict[str, Any]:
    """The part of a contract that is about these paths."""
    kept = {path: item for path, item in contract["paths"].items() if re.fullmatch(paths, path)}
    operations = [operation for item in kept.values() for operation in item.values()]
    ids = {operation["operationId"] for operation in operations}
    for answer in (answer for operation in operations for answer in operation["responses"].values()):
        links = answer.get("links", {})
        answer["links"] = {name: link for name, link in links.items() if link["operationId"] in ids}
    return {**contract, "paths": kept}


def test_there_are_enough_faults_and_each_rule_has_caught_one() -> None:
    assert len(FAULTS) >= 30
    assert all(fault.plant.__doc__ for fault in FAULTS.values())
    caught_by = {rule for fault in FAULTS.values() for rule in fault.rules}
    assert caught_by <= RULES.keys()
    assert RULES.keys() - caught_by == set()


@pytest.mark.parametrize("seed", range(3))
def test_a_sound_server_passes_also_with_a_coarse_clock(seed: int) -> None:
    with serving(tick_ns=(1, 1000, 20_000_000)[seed]) as url:
        kit = Kit(Settings(url, level="full", seed=seed))
        broken = [kit.told(verdict) for verdict in kit.semantics() if verdict.status == "fail"]
        assert kit.clean() == 0
        kit.connections.close()
    assert broken == []
