"""How two versions of openapi.yaml differ, and whom each difference breaks: clients, servers, both, or nobody.

A difference breaks *clients* if one that keeps the old contract may fail on a server that keeps the new one, be it that
its code was generated and a name in it has changed. It breaks *servers* if one that keeps the old contract may fail
under a client of the new one, or the kit would now call it wrong. Whatever breaks neither is additive: a new operation
(a server without it lacks a feature, and the kit says "absent"), a new optional field or parameter (who does not know
it ignores it), one more error status (all but 200 mean "not done", says the contract).

Only what a machine can read is compared. Prose, examples, links and summaries are not; whoever changes what a sentence
promises has to raise the version by themselves.

This is our own because no tool that a machine with only Python can run does it. oasdiff is the well-kept one; it is
in Go, and judges for clients alone. @pb33f/openapi-changes (npm) fetches a program at installation, @useoptic/optic is
no longer developed, openapi-diff knows OpenAPI up to 3.0. Of those on PyPI, api-schema-diff saw 3 of 11 breaks planted
into our contract and breakwatch 1: neither looks at bounds, defaults, patterns or operation ids.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from releases.schemas import Difference, Document, Schemas, Side, inlined, moved, resolved

Node: TypeAlias = dict[str, Any]

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def differences(old: Document, new: Document) -> list[Difference]:
    """All differences between two contracts, those that break something first, each once."""
    found: dict[tuple[str, str], Difference] = {}
    for each in Contracts(old, new).differences():
        same = found.get((each.where, each.what), each)
        found[each.where, each.what] = each._replace(
            clients=each.clients or same.clients, servers=each.servers or same.servers
        )
    return sorted(found.values(), key=lambda each: (not each.breaking, each.where, each.what))


class Contracts:
    """Compares two contracts, from the paths down to the schemas."""

    def __init__(self, old: Document, new: Document) -> None:
        self.old = old
        self.new = new
        self.schemas = Schemas(old, new)

    def differences(self) -> Iterator[Difference]:
        before, after = _operations(self.old), _operations(self.new)
        for key in sorted(before.keys() | after.keys()):
            if key not in after:
                yield Difference(before[key].name, "was removed", clients=True)
            elif key not in before:
                yield Difference(after[key].name, "was added")
            else:
                yield from self._operation(before[key], after[key])
        yield from self._component_names()
        yield from self._servers()
        yield from self._unclear("webhooks", self.old, self.new, "contract")

    def _operation(self, old: "Operation", new: "Operation") -> Iterator[Difference]:
        name = new.name
        for key, at in (("operationId", "operationId"), ("tags", "the first of its tags")):
            before, after = old.node.get(key), new.node.get(key)
            if key == "tags":
                before, after = (before or [None])[0], (after or [None])[0]
            if before != after:  # generated code has a function of that name, in a module named like the tag
                yield Difference(name, f"{at} was {before}, is {after}", clients=True)
        if bool(old.node.get("deprecated")) is not bool(new.node.get("deprecated")):
            yield Difference(name, "is deprecated now" if new.node.get("deprecated") else "is no longer deprecated")
        yield from self._parameters(old, new)
        yield from self._body(old.node.get("requestBody"), new.node.get("requestBody"), name)
        yield from self._answers(old.node.get("responses", {}), new.node.get("responses", {}), name)
        yield from self._security(old.node, new.node, name)
        yield from self._unclear("callbacks", old.node, new.node, name)
        yield from self._unclear("servers", old.node, new.node, name)

    def _parameters(self, old: "Operation", new: "Operation") -> Iterator[Difference]:
        before, after = old.parameters(), new.parameters()
        gone = [key for key in before if key not in after]
        come = [key for key in after if key not in before]
        for key in gone:
            place, label = before[key]["in"], f"{new.name}, {_label(before[key])}"
            elsewhere = [other for other in come if after[other]["name"] == before[key]["name"]]
            if elsewhere:
                come.remove(elsewhere[0])
                what = f"is in the {after[elsewhere[0]]['in']} now, and was in the {place}"
                yield Difference(label, what, clients=True, servers=True)
            else:
                yield Difference(label, "was removed", clients=True)
        for key in come:
            required = bool(after[key].get("required"))
            what = f"was added, {'required' if required else 'optional'}"
            yield moved(Side.REQUEST, f"{new.name}, {_label(after[key])}", what, narrows=required)
        for key in before.keys() & after.keys():
            yield from self._parameter(before[key], after[key], new.name)

    def _parameter(self, old: Node, new: Node, operation: str) -> Iterator[Difference]:
        label = f"{operation}, {_label(new)}"
        if old["name"].lower() != new["name"].lower():  # only of a parameter in the path, which is known by its place
            yield Difference(label, f"was named {old['name']}", clients=True)
        yield from self._needed(old, new, Side.REQUEST, label)
        for keyword in ("style", "explode", "allowReserved", "allowEmptyValue", "content"):
            yield from self._unclear(keyword, old, new, label)
        yield from self.schemas.differences(old.get("schema", True), new.get("schema", True), Side.REQUEST, label)

    def _body(self, old: Node | None, new: Node | None, operation: str) -> Iterator[Difference]:
        label = f"{operation}, body"
        if old is None or new is None:
            if new is not None:
                required = bool(resolved(self.new, new).get("required"))
                yield Difference(label, f"was added, {'required' if required else 'optional'}", clients=required)
            elif old is not None:
                yield Difference(label, "was removed", clients=True)
            return
        old, new = resolved(self.old, old), resolved(self.new, new)
        yield from self._needed(old, new, Side.REQUEST, label)
        yield from self._media(old, new, Side.REQUEST, label)

    def _answers(self, old: Node, new: Node, operation: str) -> Iterator[Difference]:
        for status in sorted(old.keys() | new.keys()):
            label = f"{operation}, status {status}"
            error = status[0] in "45"
            if status not in new:  # who waited for a success never gets it; an error is not missed
                yield Difference(label, "was removed", clients=not error, servers=True)
            elif status not in old:
                yield Difference(label, "was added", clients=not error)
            else:
                yield from self._answer(old[status], new[status], label)

    def _answer(self, old: Node, new: Node, label: str) -> Iterator[Difference]:
        name = old.get("$ref")
        if name is not None and name == new.get("$ref"):
            label = name.rpartition("/")[2]  # shared by many operations, and told once
        old, new = resolved(self.old, old), resolved(self.new, new)
        yield from self._media(old, new, Side.ANSWER, label)
        before, after = (_by_lower_name(node.get("headers", {})) for node in (old, new))
        for key in sorted(before.keys() | after.keys()):
            where = f"{label}, header {key}"
            if key not in after:
                yield Difference(where, "was removed", clients=True)
            elif key not in before:
                required = bool(resolved(self.new, after[key]).get("required"))
                what = f"was added, {'required' if required else 'optional'}"
                yield moved(Side.ANSWER, where, what, narrows=required)
            else:
                was, is_ = resolved(self.old, before[key]), resolved(self.new, after[key])
                yield from self._needed(was, is_, Side.ANSWER, where)
                schemas = was.get("schema", True), is_.get("schema", True)
                yield from self.schemas.differences(*schemas, Side.ANSWER, where)

    def _media(self, old: Node, new: Node, side: Side, label: str) -> Iterator[Difference]:
        before, after = old.get("content", {}), new.get("content", {})
        for media in sorted(before.keys() | after.keys()):
            if media not in after:  # in an answer: who asked for it does not get it, and who sends it may not
                what = f"{media} was removed"
                yield Difference(label, what, clients=True, servers=side is Side.ANSWER)
            elif media not in before:
                yield moved(side, label, f"{media} was added", widens=True)
            else:
                schemas = before[media].get("schema", True), after[media].get("schema", True)
                yield from self.schemas.differences(*schemas, side, label)
                yield from self._unclear("encoding", before[media], after[media], label)

    def _needed(self, old: Node, new: Node, side: Side, label: str) -> Iterator[Difference]:
        was, is_ = bool(old.get("required")), bool(new.get("required"))
        if was is not is_:
            yield moved(side, label, "is required now" if is_ else "is no longer required", narrows=is_, widens=was)

    def _security(self, old: Node, new: Node, label: str) -> Iterator[Difference]:
        """Each alternative by what the schemes in it are, so that a scheme's name is free."""
        before, after = _alternatives(self.old, old), _alternatives(self.new, new)
        for each in sorted(before.keys() - after.keys()):
            yield Difference(label, f"may no longer be called with {before[each]}", clients=True)
        for each in sorted(after.keys() - before.keys()):
            yield Difference(label, f"may now be called with {after[each]}", servers=True)

    def _component_names(self) -> Iterator[Difference]:
        before, after = (document.get("components", {}).get("schemas", {}) for document in (self.old, self.new))
        for name in sorted(before.keys() - after.keys()):
            yield Difference(name, "has no schema of this name any more, and generated code a class", clients=True)

    def _servers(self) -> Iterator[Difference]:
        before, after = ([each["url"] for each in document.get("servers", [])] for document in (self.old, self.new))
        for url in before:
            if url not in after:
                yield Difference("contract", f"server {url} was removed", clients=True)
        for url in after:
            if url not in before:
                yield Difference("contract", f"server {url} was added")

    def _unclear(self, keyword: str, old: Node, new: Node, label: str) -> Iterator[Difference]:
        if inlined(self.old, old.get(keyword)) != inlined(self.new, new.get(keyword)):
            what = f"{keyword} was changed, and whom that breaks cannot be told"
            yield Difference(label, what, clients=True, servers=True)


class Operation:
    """A method at an address."""

    def __init__(self, document: Document, method: str, path: str, shared: list[Node], node: Node) -> None:
        self.name = f"{method.upper()} {path}"
        self.node = node
        self._document = document
        self._shared = shared
        self._names = re.findall(r"{([^}]+)}", path)

    def parameters(self) -> dict[tuple[str, str], Node]:
        """The parameters, each by where it is and its name, or, in the path, its place; those of the path included."""
        every = [resolved(self._document, each) for each in (*self._shared, *self.node.get("parameters", []))]
        return {(each["in"], self._key(each)): each for each in every}

    def _key(self, parameter: Node) -> str:
        name = str(parameter["name"])
        if parameter["in"] == "path" and name in self._names:
            return str(self._names.index(name))
        return name.lower() if parameter["in"] == "header" else name


def _operations(document: Document) -> dict[tuple[str, str], Operation]:
    """The operations of a contract by their addresses, where the name of what is in braces does not count."""
    return {
        (re.sub(r"{[^}]+}", "{}", path), method): Operation(document, method, path, item.get("parameters", []), node)
        for path, item in document.get("paths", {}).items()
        for method, node in item.items()
        if method in METHODS
    }


def _label(parameter: Node) -> str:
    return f"{parameter['in']} parameter {parameter['name']}"


def _by_lower_name(headers: Node) -> Node:
    return {name.lower(): header for name, header in headers.items()}


def _alternatives(document: Document, operation: Node) -> dict[str, str]:
    """The ways to be let in: what each asks for, and what it is called."""
    schemes = document.get("components", {}).get("securitySchemes", {})
    ways: list[Node] = operation["security"] if "security" in operation else document.get("security", [{}])
    found = {}
    for way in ways:
        asked = sorted((repr(inlined(document, schemes.get(name))), scopes) for name, scopes in way.items())
        found[repr(asked)] = " and ".join(way) or "no credentials"
    return found
