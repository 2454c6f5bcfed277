"""The part that openapi.yaml says: generated requests, and whether each answer has the shape that it promises.

Schemathesis makes the requests - from the examples, for each bound of each schema, at random, and in sequences along
the links - and checks the answers with all of its default checks. They go through a gateway of ours, which keeps them
in groups of our own and has the oracle judge what no schema can say.

The laws of this room: schemathesis is imported here and nowhere else, and only when it is used; none of its checks is
left out.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from taskstore.contract.gateway import Gateway
from taskstore.contract.report import Verdict
from taskstore.contract.shrink import Shrinker
from taskstore.contract.store import Exchange

if TYPE_CHECKING:
    from schemathesis.engine.recorder import CheckNode, ScenarioRecorder

EXAMPLES: Final = 50
"""How many random requests are made for each operation."""
ORACLE: Final = "every-generated-request-is-answered-right"
ANSWERED: Final = "every-generated-request-is-answered"
SENTENCES: Final[Mapping[str, str]] = {
    ORACLE: "Generated requests, in any sequence, are answered as all rules of the semantics together demand.",
    ANSWERED: "Every generated request gets an answer that can be read.",
    "not-a-server-error": "No request, however odd, is answered with a status of 500 or more.",
    "status-code-conformance": "Every status is one that the contract has for the operation.",
    "content-type-conformance": "Every answer has a Content-Type that the contract has for its status.",
    "response-headers-conformance": "Every answer has the headers that the contract has for its status.",
    "response-schema-conformance": "Every answer has the fields, types and bounds that the contract gives it.",
    "negative-data-rejection": "A request that does not fit the contract is refused.",
    "positive-data-acceptance": "A request that fits the contract is not refused as unfit.",
    "missing-required-header": "A request without a header that the contract demands is refused.",
    "unsupported-method": "A method that the contract does not have for an address is refused with 405.",
    "allow-header-conformance": "A 405 names the methods of the contract in Allow.",
    "use-after-free": "What was deleted cannot be used.",
    "ensure-resource-availability": "What was made can be used.",
    "ignored-auth": "A request without the credentials that an operation demands is refused.",
    "object-level-authorization": "What one user made is not shown to another.",
}
Progress = Callable[[str, int], None]
"""Told the name of the phase, and how many requests there have been."""


def missing() -> str | None:
    """What has to be installed for this part and is not."""
    return next((name for name in ("schemathesis", "yaml") if find_spec(name) is None), None)


def load_contract() -> dict[str, Any]:
    """The contract that is shipped with this package."""
    import yaml

    shipped = files("taskstore") / "openapi.yaml"
    text = shipped.read_text() if shipped.is_file() else Path(__file__).parents[2].joinpath("openapi.yaml").read_text()
    contract: dict[str, Any] = yaml.safe_load(text)
    return contract


def check_schema(
    contract: Mapping[str, Any],
    gateway: Gateway,
    shrinker: Shrinker | None,
    *,
    seed: int,
    examples: int = EXAMPLES,
    progress: Progress,
) -> list[Verdict]:
    """Generate requests from a contract, send them through `gateway`, and judge the answers.

    Without a `shrinker` a sequence that the oracle complains of is told as it was.
    """
    run = _Run(gateway, shrinker, progress)
    with _unproxied():
        run.execute(contract, seed, examples)
    return run.verdicts()


# What CPython 3.11 may say of Schemathesis's own code when two threads parse at a time; it says nothing of a server.
_FAULT_OF_PYTHON: Final = "AST constructor recursion depth mismatch"


class _Run:
    def __init__(self, gateway: Gateway, shrinker: Shrinker | None, progress: Progress) -> None:
        self._gateway = gateway
        self._shrinker = shrinker
        self._progress = progress
        self._counts: dict[str, int] = {}
        self._failures: dict[str, list[Verdict]] = {}
        self._requests = 0
        self._started = monotonic()

    def execute(self, contract: Mapping[str, Any], seed: int, examples: int) -> None:
        from schemathesis import openapi
        from schemathesis.config import SchemathesisConfig
        from schemathesis.engine import events, from_schema

        settings = {
            "seed": seed,
            "base-url": self._gateway.url,
            "continue-on-failure": True,
            "request-timeout": 30.0,
            "generation": {"max-examples": examples, "database": "none"},
        }
        schema = openapi.from_dict(dict(contract), config=SchemathesisConfig.from_dict(settings))
        for event in from_schema(schema).execute():
            if isinstance(event, events.ScenarioFinished):
                self._requests += len(event.recorder.interactions)
                self._progress(event.phase.value, self._requests)
                self._note(event.recorder)
            elif isinstance(event, events.NonFatalError):
                if _FAULT_OF_PYTHON in event.info.message:
                    continue
                self._fail(ANSWERED, f"{event.label}: {event.info.title}: {event.info.message}", [])
            elif isinstance(event, events.FatalError):
                raise event.exception

    def _note(self, recorder: "ScenarioRecorder") -> None:
        for case, checks in recorder.checks.items():
            for check in checks:
                name = check.name.replace("_", "-")
                self._counts[name] = self._counts.get(name, 0) + 1
                if check.failure_info:
                    self._fail(name, _message(check), list(self._steps(recorder, case)))

    def _steps(self, recorder: "ScenarioRecorder", case_id: str) -> Iterator[Exchange]:
        for case in recorder.iter_chain_cases(case_id=case_id):
            if exchange := self._gateway.cases.get(case.id):
                yield exchange

    def _fail(self, name: str, message: str, steps: list[Exchange]) -> None:
        verdict = Verdict(name, _sentence(name), "schema", "fail", message, steps, self._gateway.common)
        self._failures.setdefault(name, []).append(verdict)

    def verdicts(self) -> list[Verdict]:
        if trail := self._gateway.trail:
            common, steps, complaint = self._shrinker.shortest(trail) if self._shrinker else trail
            self._failures[ORACLE] = [Verdict(ORACLE, _sentence(ORACLE), "schema", "fail", complaint, steps, common)]
        self._counts[ORACLE] = self._counts[ANSWERED] = self._requests
        names = sorted({*self._counts, *self._failures}, key=_rank)
        return [self._verdict(name) for name in names]

    def _verdict(self, name: str) -> Verdict:
        requests = self._counts.get(name, 0)
        failures = self._failures.get(name)
        if not failures:
            return Verdict(name, _sentence(name), "schema", "pass", requests=requests)
        shortest = min(failures, key=lambda verdict: len(verdict.steps))
        more = f" (and {len(failures) - 1} more like this)" if len(failures) > 1 else ""
        seconds = monotonic() - self._started
        return shortest._replace(message=shortest.message + more, requests=requests, seconds=seconds)


def _message(check: "CheckNode") -> str:
    assert check.failure_info is not None
    failure = check.failure_info.failure
    return f"{failure.operation}: {failure.title}: {failure.message}".strip(": \n")


def _sentence(name: str) -> str:
    return SENTENCES.get(name, name.replace("-", " ").capitalize() + ".")


def _rank(name: str) -> tuple[int, str]:
    known = list(SENTENCES)
    return known.index(name) if name in known else len(known), name


@contextmanager
def _unproxied() -> Iterator[None]:
    """The gateway is on this machine, whatever proxy stands between this machine and others."""
    before = {name: os.environ.get(name) for name in ("NO_PROXY", "no_proxy")}
    os.environ.update(dict.fromkeys(before, "127.0.0.1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
