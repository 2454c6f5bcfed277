"""How two schemas differ, and whom each difference breaks.

The laws of this room: a difference either narrows (a value that was valid no longer is), widens (one is valid that was
not), or both, and what cannot be decided counts as both. On which side of the wire it happens says whom it breaks:

|          | in a request                                          | in an answer                                  |
|----------|-------------------------------------------------------|-----------------------------------------------|
| narrowed | clients: what they send is refused now                | servers: what they answer no longer fits      |
| widened  | servers: they refuse what a newer client may send now | clients: they get what they never had to read |

Objects are open, because either side ignores fields that it does not know. So a new optional field breaks nobody, while
one that was removed breaks the clients that send it or read it. A component is compared once, under its own name.
"""

import json
import math
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, Final, NamedTuple, TypeAlias

Schema: TypeAlias = dict[str, Any]
Document: TypeAlias = dict[str, Any]

ALL_TYPES: Final = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
SAYS_NOTHING: Final = {"$comment", "$schema", "description", "example", "examples", "externalDocs", "summary", "title"}
"""Keywords that a person reads, and that no value can break."""
LOWER: Final = {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"}
UPPER: Final = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}
SMALLER_FORMATS: Final = {("int32", "int64"), ("float", "double")}
UNIONS: Final = ("oneOf", "anyOf")


class Side(Enum):
    """In which direction a value travels."""

    REQUEST = "request"
    ANSWER = "answer"


class Difference(NamedTuple):
    """One difference, and whom it breaks; it is additive where it breaks neither."""

    where: str
    what: str
    clients: bool = False
    """Whether a client that keeps the old contract breaks on a server that keeps the new one."""
    servers: bool = False
    """Whether a server that keeps the old contract breaks under a client that keeps the new one."""

    @property
    def breaking(self) -> bool:
        return self.clients or self.servers

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def moved(side: Side, where: str, what: str, *, narrows: bool = False, widens: bool = False) -> Difference:
    """A difference in what is valid, seen from the side it is on."""
    if side is Side.REQUEST:
        return Difference(where, what, clients=narrows, servers=widens)
    return Difference(where, what, clients=widens, servers=narrows)


class Schemas:
    """Compares the schemas of two documents."""

    def __init__(self, old: Document, new: Document) -> None:
        self.old = old
        self.new = new
        self._seen: set[tuple[str, Side]] = set()

    def differences(self, old: Any, new: Any, side: Side, where: str) -> Iterator[Difference]:
        """How the new schema differs from the old one; `where` is what it is called unless it is a component."""
        old, old_null = _unwrapped(_schema(old))
        new, new_null = _unwrapped(_schema(new))
        name = old.get("$ref")
        if old_null or new_null or name is None or name != new.get("$ref"):
            before = old_null or _takes_null(self.old, old)
            after = new_null or _takes_null(self.new, new)
            if before is not after:
                what = "null is allowed now" if after else "null is no longer allowed"
                yield moved(side, where, what, narrows=before, widens=after)
        if name is not None and name == new.get("$ref"):
            yield from self._component(name, side)
            old, new = _without(old, "$ref"), _without(new, "$ref")
        yield from self._keywords(resolved(self.old, old), resolved(self.new, new), side, where)

    def _component(self, reference: str, side: Side) -> Iterator[Difference]:
        if (reference, side) not in self._seen:  # which also ends the recursion of one that contains itself
            self._seen.add((reference, side))
            old, new = (target(document, reference) for document in (self.old, self.new))
            yield from self.differences(old, new, side, reference.rpartition("/")[2])

    def _keywords(self, old: Schema, new: Schema, side: Side, where: str) -> Iterator[Difference]:
        keywords = sorted((old.keys() | new.keys()) - SAYS_NOTHING - {"type"})
        for keyword in keywords:
            if keyword not in KEYWORDS and keyword not in LOWER | UPPER | {"$never"} and not keyword.startswith("x-"):
                yield from self._unclear(keyword, old, new, where)
        if "$never" in old or "$never" in new:
            narrows = "$never" in new
            what = "nothing is allowed any more" if narrows else "something is allowed now"
            if old != new:
                yield moved(side, where, what, narrows=narrows, widens=not narrows)
            return
        yield from _types(old, new, side, where)
        for compare in dict.fromkeys(KEYWORDS[keyword] for keyword in keywords if keyword in KEYWORDS):
            yield from compare(self, old, new, side, where)
        for keyword in keywords:
            if keyword in LOWER | UPPER:
                yield from _bound(keyword, old, new, side, where)

    def _unclear(self, keyword: str, old: Schema, new: Schema, where: str) -> Iterator[Difference]:
        """For a keyword that is not understood here: whether it says something else, what it refers to included."""
        if inlined(self.old, {keyword: old.get(keyword)}) != inlined(self.new, {keyword: new.get(keyword)}):
            what = f"{keyword} was changed, and what that allows and forbids cannot be told"
            yield Difference(where, what, clients=True, servers=True)

    def items(self, old: Schema, new: Schema, side: Side, where: str) -> Iterator[Difference]:
        yield from self.differences(old.get("items", True), new.get("items", True), side, f"{where}[]")

    def others(self, old: Schema, new: Schema, side: Side, where: str) -> Iterator[Difference]:
        before, after = (schema.get("additionalProperties", True) for schema in (old, new))
        yield from self.differences(before, after, side, f"{where}.*")

    def fields(self, old: Schema, new: Schema, side: Side, where: str) -> Iterator[Difference]:
        before, after = _known(old), _known(new)
        for name in sorted(before.keys() | after.keys()):
            field = f"{where}.{name}"
            if name not in after:
                yield from self._field_removed(before[name], new, name in old.get("required", ()), side, field)
            elif name not in before:
                yield from self._field_added(after[name], old, name in new.get("required", ()), side, field)
            else:
                yield from self.differences(before[name], after[name], side, field)
                was, is_ = (name in schema.get("required", ()) for schema in (old, new))
                if was is not is_:
                    what = "is required now" if is_ else "is no longer required"
                    yield moved(side, field, what, narrows=is_, widens=was)

    def _field_removed(self, field: Any, new: Schema, required: bool, side: Side, where: str) -> Iterator[Difference]:
        others = new.get("additionalProperties", True)
        if isinstance(others, dict) and others:  # a map: what was a field of its own is one like all others now
            yield from self.differences(field, others, side, where)
        else:  # an old server goes on asking for it, or sending it, which hurts where nothing else is allowed
            servers = required if side is Side.REQUEST else others is False
            yield Difference(where, f"was removed from the {side.value}", clients=True, servers=servers)

    def _field_added(self, field: Any, old: Schema, required: bool, side: Side, where: str) -> Iterator[Difference]:
        others = old.get("additionalProperties", True)
        what = f"was added to the {side.value}, {'required' if required else 'optional'}"
        if isinstance(others, dict) and others:
            yield from self.differences(others, field, side, where)
        yield moved(side, where, what, narrows=required, widens=others is False)

    def all_of(self, old: Schema, new: Schema, side: Side, where: str) -> Iterator[Difference]:
        gone, come, pairs = self._matched(old.get("allOf", []), new.get("allOf", []))
        for before, after in pairs:
            yield from self.differences(before, after, side, where)
        if gone:
            yield moved(side, where, "has fewer conditions in allOf", widens=True)
        if come:
            yield moved(side, where, "has more conditions in allOf", narrows=True)

    def one_of(self, old: Schema, new: Schema, side: Side, where: str) -> Iterator[Difference]:
        yield from self._union("oneOf", old, new, side, where)

    def any_of(self, old: Schema, new: Schema, side: Side, where: str) -> Iterator[Difference]:
        yield from self._union("anyOf", old, new, side, where)

    def _union(self, keyword: str, old: Schema, new: Schema, side: Side, where: str) -> Iterator[Difference]:
        if (keyword in old) is not (keyword in new):
            added = keyword in new
            what = f"{keyword} was {'added' if added else 'removed'}"
            yield moved(side, where, what, narrows=added, widens=not added)
            return
        gone, come, pairs = self._matched(old[keyword], new[keyword])
        for number, (before, after) in enumerate(pairs, 1):
            yield from self.differences(before, after, side, f"{where} ({keyword} {number})")
        if gone:
            yield moved(side, where, f"has fewer alternatives in {keyword}", narrows=True)
        if come:
            yield moved(side, where, f"has more alternatives in {keyword}", widens=True)

    def _matched(self, old: list[Any], new: list[Any]) -> tuple[list[Any], list[Any], list[tuple[Any, Any]]]:
        """What is only in the old list, only in the new one, and what stands for what where one has changed."""
        before = {json.dumps(inlined(self.old, each), sort_keys=True): each for each in old}
        after = {json.dumps(inlined(self.new, each), sort_keys=True): each for each in new}
        gone = [each for key, each in before.items() if key not in after]
        come = [each for key, each in after.items() if key not in before]
        if len(gone) == len(come):
            return [], [], list(zip(gone, come, strict=True))
        return gone, come, []


def _types(old: Schema, new: Schema, side: Side, where: str) -> Iterator[Difference]:
    before, after = _type_set(old) - {"null"}, _type_set(new) - {"null"}  # null is compared on its own
    lost = before - after - ({"integer"} if "number" in after else set())
    gained = after - before - ({"integer"} if "number" in before else set())
    if lost or gained:
        what = f"type was {_listed(before)}, is {_listed(after)}"
        yield moved(side, where, what, narrows=bool(lost), widens=bool(gained))


def _values(_: Schemas, old: Schema, new: Schema, side: Side, where: str) -> Iterator[Difference]:
    before, after = _allowed(old), _allowed(new)
    if before is None and after is not None:
        yield moved(side, where, f"only {_listed(after)} allowed now", narrows=True)
    elif after is None and before is not None:
        yield moved(side, where, f"no longer only {_listed(before)} allowed", widens=True)
    else:
        for value in sorted((before or set()) - (after or set())):
            yield moved(side, where, f"value {value} was removed", narrows=True)
        for value in sorted((after or set()) - (before or set())):
            yield moved(side, where, f"value {value} was added", widens=True)


def _bound(keyword: str, old: Schema, new: Schema, side: Side, where: str) -> Iterator[Difference]:
    lower = keyword in LOWER
    least = 0 if keyword.startswith("min") and keyword != "minimum" else -math.inf
    before, after = (schema.get(keyword, least if lower else math.inf) for schema in (old, new))
    if before != after:
        narrows = (after > before) is lower
        what = _was_is(keyword, old, new)
        yield moved(side, where, what, narrows=narrows, widens=not narrows)


def _pattern(_: Schemas, old: Schema, new: Schema, side: Side, where: str) -> Iterator[Difference]:
    if old.get("pattern") != new.get("pattern"):
        what = _was_is("pattern", old, new)
        yield moved(side, where, what, narrows="pattern" in new, widens="pattern" in old)


def _format(_: Schemas, old: Schema, new: Schema, side: Side, where: str) -> Iterator[Difference]:
    before, after = old.get("format"), new.get("format")
    if before != after:
        narrows = after is not None and (before, after) not in SMALLER_FORMATS
        widens = before is not None and (after, before) not in SMALLER_FORMATS
        yield moved(side, where, _was_is("format", old, new), narrows=narrows, widens=widens)


def _multiple(_: Schemas, old: Schema, new: Schema, side: Side, where: str) -> Iterator[Difference]:
    before, after = old.get("multipleOf"), new.get("multipleOf")
    if before != after:
        narrows = after is not None and (before is None or before % after != 0)
        widens = before is not None and (after is None or after % before != 0)
        yield moved(side, where, _was_is("multipleOf", old, new), narrows=narrows, widens=widens)


def _unique(_: Schemas, old: Schema, new: Schema, side: Side, where: str) -> Iterator[Difference]:
    before, after = (bool(schema.get("uniqueItems", False)) for schema in (old, new))
    if before is not after:
        what = "elements have to be unique now" if after else "elements need no longer be unique"
        yield moved(side, where, what, narrows=after, widens=before)


def _default(_: Schemas, old: Schema, new: Schema, side: Side, where: str) -> Iterator[Difference]:
    """Who leaves a value out means the default: one more to be kept by servers, one less to be relied on by clients."""
    del side
    if json.dumps(old.get("default")) != json.dumps(new.get("default")) or ("default" in old) is not ("default" in new):
        what = _was_is("default", old, new)
        yield Difference(where, what, clients="default" in old, servers="default" in new)


def _deprecated(_: Schemas, old: Schema, new: Schema, side: Side, where: str) -> Iterator[Difference]:
    del side
    if bool(old.get("deprecated")) is not bool(new.get("deprecated")):
        yield Difference(where, "is deprecated now" if new.get("deprecated") else "is no longer deprecated")


def _known(schema: Schema) -> dict[str, Any]:
    """The fields that an object may or must have, by name."""
    return {**dict.fromkeys(schema.get("required", ()), True), **schema.get("properties", {})}


def _schema(node: Any) -> Schema:
    """A schema as a dict; `false` has no such form, so it gets a keyword of its own."""
    if isinstance(node, dict):
        return node
    return {} if node else {"$never": False}


def _unwrapped(schema: Schema) -> tuple[Schema, bool]:
    """Where a schema says `this, or null`, that this, with what is said beside it; and whether it says so."""
    for keyword in UNIONS:
        branches = schema.get(keyword, [])
        rest = [branch for branch in branches if branch != {"type": "null"}]
        if len(rest) == 1 and len(branches) == 2:
            return {**_schema(rest[0]), **_without(schema, keyword)}, True
    return schema, False


def _without(schema: Schema, *keywords: str) -> Schema:
    return {key: value for key, value in schema.items() if key not in keywords}


def _type_set(schema: Schema) -> frozenset[str]:
    named = schema.get("type", ALL_TYPES)
    return frozenset([named] if isinstance(named, str) else named)


def _takes_null(document: Document, node: Any, within: tuple[str, ...] = ()) -> bool:
    """Whether null is valid, as far as types, values and combinations of schemas tell."""
    schema = _schema(node)
    reference = schema.get("$ref")
    if reference in within:
        return False  # nothing but itself again
    within = (*within, reference) if reference else within
    schema = resolved(document, schema)
    allowed = _allowed(schema)
    if "$never" in schema or "null" not in _type_set(schema) or (allowed is not None and "null" not in allowed):
        return False
    unions = [schema[keyword] for keyword in UNIONS if keyword in schema]
    return all(any(_takes_null(document, each, within) for each in union) for union in unions) and all(
        _takes_null(document, each, within) for each in schema.get("allOf", [])
    )


def _allowed(schema: Schema) -> set[str] | None:
    """The values of enum or const, written as JSON; None where any is allowed."""
    if "const" in schema:
        return {json.dumps(schema["const"], sort_keys=True)}
    return {json.dumps(value, sort_keys=True) for value in schema["enum"]} if "enum" in schema else None


def _listed(values: frozenset[str] | set[str]) -> str:
    return "anything" if values == ALL_TYPES - {"null"} else " or ".join(sorted(values)) or "only null"


def _was_is(keyword: str, old: Schema, new: Schema) -> str:
    before, after = (
        json.dumps(schema[keyword], ensure_ascii=False) if keyword in schema else "none" for schema in (old, new)
    )
    return f"{keyword} was {before}, is {after}"


def target(document: Document, reference: str) -> Any:
    """What a reference within a document points to.

    Raises:
        ValueError: it points nowhere, or out of the document.
    """
    node: Any = document
    for part in reference.removeprefix("#/").split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(node, dict) or key not in node:
            raise ValueError(f"{reference} points nowhere")
        node = node[key]
    return node


def resolved(document: Document, node: Schema) -> Schema:
    """What a node says once its reference is followed; what stands beside the reference comes on top."""
    while "$ref" in node:
        node = {**_schema(target(document, node["$ref"])), **_without(node, "$ref")}
    return node


def inlined(document: Document, node: Any, within: tuple[str, ...] = ()) -> Any:
    """A node with all references replaced by what they refer to, but for those that lead back to themselves."""
    if isinstance(node, list):
        return [inlined(document, each, within) for each in node]
    if not isinstance(node, dict):
        return node
    reference = node.get("$ref")
    if isinstance(reference, str) and reference not in within:
        return inlined(document, resolved(document, node), (*within, reference))
    return {
        key: {name: inlined(document, field, within) for name, field in value.items()}
        if key in ("properties", "patternProperties", "dependentSchemas", "$defs") and isinstance(value, dict)
        else inlined(document, value, within)
        for key, value in node.items()
        if key not in SAYS_NOTHING
    }


KEYWORDS: Final[dict[str, Callable[[Schemas, Schema, Schema, Side, str], Iterator[Difference]]]] = {
    "additionalProperties": Schemas.others,
    "allOf": Schemas.all_of,
    "anyOf": Schemas.any_of,
    "const": _values,
    "default": _default,
    "deprecated": _deprecated,
    "enum": _values,
    "format": _format,
    "items": Schemas.items,
    "multipleOf": _multiple,
    "oneOf": Schemas.one_of,
    "pattern": _pattern,
    "properties": Schemas.fields,
    "required": Schemas.fields,
    "uniqueItems": _unique,
}
"""What compares which keyword; bounds, and what is not understood, are seen to where this is used."""
