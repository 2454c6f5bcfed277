"""The conformance kit: finds out whether any taskstore server, in whatever language, keeps the contract.

    from taskstore.contract import Settings, check

    report = check(Settings("http://127.0.0.1:8048"))
    assert report.passed, [verdict.message for verdict in report.verdicts if verdict.status == "fail"]

Two parts make one report. **Semantics** are named rules, each a function over a raw HTTP driver: what no schema can
say. **Schema** is what openapi.yaml says, by requests that Schemathesis generates. `taskstore check URL` is this on
the command line, and `pytest --taskstore-url URL` runs each rule as a test.

The laws of this room: it knows a server only by its address; it shares no translation with our client or server; it
does no harm to a server that holds real data; it calls nobody wrong who is only slow; and it counts only because it
has caught planted faults (tests/contract).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskstore.contract.report import Report, Verdict
    from taskstore.contract.run import NoServerError, Settings, check

__all__ = ["NoServerError", "Report", "Settings", "Verdict", "check"]


def __getattr__(name: str) -> Any:
    # Late, because plugin.py is imported by every pytest there is.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("taskstore.contract.run"), name)
