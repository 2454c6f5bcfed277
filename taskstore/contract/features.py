"""What a server offers beyond the original protocol, and how to find out without doing anything.

A field that a server does not know is ignored, and one that it knows is refused when it holds nonsense: by this the
two are told apart. What is not offered is reported as absent and asked for no more, also not by generated requests.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from typing import Any, Final, NamedTuple

from taskstore.contract.connection import Request
from taskstore.contract.rule import Broken
from taskstore.contract.store import Store


class Feature(NamedTuple):
    """An addition to the original protocol."""

    what: str
    is_offered: Callable[[Store], bool]
    operations: tuple[str, ...] = ()
    """The operations that come with it, by operationId."""
    fields: tuple[str, ...] = ()
    """The fields of a claim that come with it."""
    headers: tuple[str, ...] = ()
    """The headers of a request that come with it."""


def _answers(method: str, path: str) -> Callable[[Store], bool]:
    """Whether there is such an address."""
    return lambda store: store.send(Request(method, path)).status not in (404, 501)


def _reads(field: str) -> Callable[[Store], bool]:
    """Whether a claim looks at a field."""

    def refuses_nonsense(store: Store) -> bool:
        content = {"clientid": store.one, "group": store.group(), "duration": 0, field: {"no": "sense"}}
        return store.send(store.dialect.post("claim", content)).status in (400, 422)

    return refuses_nonsense


def _refuses_bad_keys(store: Store) -> bool:
    request = store.dialect.post("update", {"clientid": store.one})
    request = request._replace(headers=(*request.headers, ("Idempotency-Key", "too short")))
    return store.send(request).status in (400, 422)


def _shows_attempts(store: Store) -> bool:
    return store.make(adds=[store.add()])[0].attempts is not None


_CLAIMS: Final = ("ClaimRequest", "StepClaim")

FEATURES: Final[Mapping[str, Feature]] = {
    "wait": Feature("claims that wait", _reads("wait"), fields=("wait",)),
    "limit": Feature("claims of several tasks", _reads("limit"), fields=("limit",)),
    "groups": Feature("claims from several groups", _reads("groups"), fields=("groups",)),
    "step": Feature("steps", _answers("POST", "/step"), operations=("step",)),
    "keys": Feature("idempotency keys", _refuses_bad_keys, headers=("Idempotency-Key",)),
    "attempts": Feature("attempts", _shows_attempts),
    "stats": Feature("stats", _answers("GET", "/stats?limit=1"), operations=("stats",)),
    "health": Feature("health and readiness", _answers("GET", "/healthz"), operations=("healthz", "readyz")),
}


def offered(store: Store) -> frozenset[str]:
    """The features that a server has. What makes no sense of an answer is for a rule to say."""
    found = set[str]()
    for name, feature in FEATURES.items():
        with suppress(Broken):
            if feature.is_offered(store):
                found.add(name)
    return frozenset(found)


def restricted(contract: Mapping[str, Any], features: frozenset[str]) -> dict[str, Any]:
    """The contract as a server with only these features keeps it."""
    absent = [feature for name, feature in FEATURES.items() if name not in features]
    operations = {operation for feature in absent for operation in feature.operations}
    fields = {field for feature in absent for field in feature.fields}
    headers = {header for feature in absent for header in feature.headers}
    components = {name: dict(each) for name, each in contract["components"].items()}
    keys = {name for name, each in components.get("parameters", {}).items() if each["name"] in headers}
    for name in _CLAIMS:
        if name in components["schemas"]:
            components["schemas"][name] = _without_fields(components["schemas"][name], fields)
    paths = {}
    for path, item in contract["paths"].items():
        kept = {
            method: _without_examples(_without_parameters(operation, keys), fields)
            for method, operation in item.items()
            if operation["operationId"] not in operations
        }
        if kept:
            paths[path] = kept
    # Credentials are the kit's own business; a generator would only try wrong ones.
    components.pop("securitySchemes", None)
    return {
        **{name: each for name, each in contract.items() if name != "security"},
        "paths": paths,
        "components": components,
    }


def _without_fields(schema: Mapping[str, Any], fields: set[str]) -> dict[str, Any]:
    new = dict(schema)
    new["properties"] = {name: each for name, each in schema["properties"].items() if name not in fields}
    if "groups" in fields and "if" in new:  # Then there is no choice between one group and several.
        new["required"] = [*schema["required"], *schema["else"]["required"]]
        for keyword in ("if", "then", "else"):
            del new[keyword]
    new["examples"] = [each for each in schema.get("examples", ()) if not fields & each.keys()]
    return new


def _without_parameters(operation: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    references = {f"#/components/parameters/{name}" for name in names}
    parameters = [each for each in operation.get("parameters", ()) if each.get("$ref") not in references]
    return {**operation, "parameters": parameters, "security": []}


def _without_examples(operation: Mapping[str, Any], fields: set[str]) -> dict[str, Any]:
    """The operation without those examples of a request that use one of the fields."""
    new = deepcopy(dict(operation))
    for media in new.get("requestBody", {}).get("content", {}).values():
        kept = {name: each for name, each in media.get("examples", {}).items() if not fields & _fields(each["value"])}
        media["examples"] = kept
    return new


def _fields(value: Any) -> set[str]:
    if not isinstance(value, dict):
        return set()
    return {*value, *(field for each in value.values() for field in _fields(each))}
