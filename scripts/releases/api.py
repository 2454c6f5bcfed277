"""The public Python API as a stub file, and what breaks between two of them.

The laws of this room: public is what a module of `PUBLIC` lists in `__all__`, or defines under a name without an
underscore, with the public members of these; where in the package it is defined is nobody's business, nor from which
private class a member is inherited. So each module becomes one flat stub, by which the API can be read and kept, and
griffe compares two stubs. What griffe 2.4 does not see is added here: types (it compares none), async, and base classes
that were exchanged.

A parameter may take more and a result may be less, never the other way round: alternatives of a union are compared one
by one, and every other type as text.
"""

import ast
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import griffe

PUBLIC: Final = ("taskstore", "taskstore.testing")
UNIMPORTANT: Final = {"__doc__", "__hash__", "__reduce__", "__repr__", "__slots__", "__str__"}
"""Methods that Python calls, and that everything has anyway."""
ANYTHING: Final = {"Any", "object"}

logging.getLogger("griffe").setLevel(logging.ERROR)  # it warns of docstrings, which are no part of this


# Writing


def stubs(root: Path) -> dict[str, str]:
    """The stub of each public module, by the module's name, read from the sources in a directory."""
    loader = griffe.GriffeLoader(search_paths=[root], allow_inspection=False)
    package = loader.load("taskstore", try_relative_path=False)  # not one that happens to be in the working directory
    loader.resolve_aliases(external=False)
    assert isinstance(package, griffe.Module)
    modules = {name: package if name == "taskstore" else package[name.partition(".")[2]] for name in PUBLIC}
    return {name: _Stub(package, module).text() for name, module in modules.items()}


class _Stub:
    """Writes one module's stub."""

    def __init__(self, package: griffe.Module, module: griffe.Module) -> None:
        self._package = package
        self._module = module
        listed = module.exports is not None
        self._members = {
            name: _final(member)
            for name, member in sorted(module.members.items())
            if (name in {str(each) for each in module.exports or ()} if listed else self._defines(name, member))
        }
        self._public = {str(member.canonical_path): name for name, member in self._members.items()}

    @staticmethod
    def _defines(name: str, member: griffe.Object | griffe.Alias) -> bool:
        return not name.startswith("_") and not member.is_alias and not member.is_module

    def text(self) -> str:
        lines = [line for name, member in self._members.items() for line in self._object(name, member)]
        return "\n".join([f'"""The public names of {self._module.path}, and how they are called."""', "", *lines, ""])

    def _object(self, name: str, member: Any) -> Iterator[str]:
        if member.is_class:
            yield from self._class(name, member)
        elif member.is_function:
            yield from self._function(name, member)
        else:
            yield self._attribute(name, member)

    def _class(self, name: str, member: griffe.Class) -> Iterator[str]:
        bases = ", ".join(dict.fromkeys(self._bases(member)))
        yield f"class {name}({bases}):" if bases else f"class {name}:"
        body = []
        members = {key: _final(each) for key, each in member.all_members.items()}
        if "__init__" not in members and _made_by_attrs(member):
            body.append(_init_of_attrs(member))
        for key, each in sorted(members.items()):
            if _is_public(key) and not each.is_module:
                body += list(self._object(key, each))
        yield from (f"    {line}" for line in body or ["..."])

    def _bases(self, member: griffe.Class) -> Iterator[str]:
        """The bases that a user can name; of a private one, its own."""
        for base in member.bases:
            path = base if isinstance(base, str) else base.canonical_path
            if path in self._public:
                yield self._public[path]
            elif path.startswith("taskstore."):
                private = _final(self._package[path.partition(".")[2]])
                yield from self._bases(private)
            else:
                yield str(base)

    def _function(self, name: str, member: griffe.Function) -> Iterator[str]:
        yield from (f"@{label}" for label in ("classmethod", "staticmethod") if label in member.labels)
        returns = f" -> {self._type(member.returns)}" if member.returns is not None else ""
        prefix = "async " if "async" in member.labels else ""
        yield f"{prefix}def {name}({', '.join(self._parameters(member))}){returns}: ..."

    def _parameters(self, member: griffe.Function) -> Iterator[str]:
        kinds = griffe.ParameterKind
        last = None
        for each in member.parameters:
            if last is kinds.positional_only and each.kind is not kinds.positional_only:
                yield "/"
            if each.kind is kinds.keyword_only and last not in (kinds.keyword_only, kinds.var_positional):
                yield "*"
            last = each.kind
            stars = {kinds.var_positional: "*", kinds.var_keyword: "**"}.get(each.kind, "") if each.kind else ""
            annotation = f": {self._type(each.annotation)}" if each.annotation is not None else ""
            default = f" = {self._value(each.default)}" if each.default is not None and not stars else ""
            yield f"{stars}{each.name}{annotation}{default}"
        if last is kinds.positional_only:
            yield "/"

    def _value(self, value: Any, depth: int = 5) -> str:
        """A default as text; where it is a constant of the package, what that constant is."""
        path = getattr(value, "canonical_path", "")
        if depth and isinstance(value, griffe.ExprName | griffe.ExprAttribute) and path.startswith("taskstore."):
            try:
                constant = _final(self._package[path.partition(".")[2]])
            except (KeyError, griffe.AliasResolutionError):
                return str(value)
            if constant.is_attribute and constant.value is not None:
                return self._value(constant.value, depth - 1)
        return str(value)

    def _type(self, annotation: Any, depth: int = 5) -> str:
        """A type as text; in place of an alias that is private, what it stands for."""
        text = str(annotation)
        if depth and isinstance(annotation, griffe.Expr):
            for part in annotation.iterate(flat=True):
                alias = self._alias(getattr(part, "canonical_path", ""))
                if alias is not None:
                    meaning = self._type(alias, depth - 1).replace("\\", r"\\")
                    text = re.sub(rf"\b{re.escape(str(part))}\b", meaning, text)
        return text

    def _alias(self, path: str) -> Any:
        """What a private alias of the package stands for; None of anything else."""
        if path in self._public or not path.startswith("taskstore."):
            return None
        try:
            found = _final(self._package[path.partition(".")[2]])
        except (KeyError, griffe.AliasResolutionError):
            return None
        return found.value if found.is_attribute and str(found.annotation) == "TypeAlias" else None

    def _attribute(self, name: str, member: griffe.Attribute) -> str:
        alias = str(member.annotation) == "TypeAlias"
        if member.annotation is None:
            return f"{name} = {member.value}" if member.value is not None and name != "__version__" else f"{name}: str"
        return (
            f"{name}: TypeAlias = {self._type(member.value)}" if alias else f"{name}: {self._type(member.annotation)}"
        )


def _final(member: Any) -> Any:
    return member.final_target if member.is_alias else member


def _is_public(name: str) -> bool:
    special = name.startswith("__") and name.endswith("__")
    return name not in UNIMPORTANT if special else not name.startswith("_")


def _made_by_attrs(member: griffe.Class) -> bool:
    return any(str(decorator.value).startswith("attrs.") for decorator in member.decorators)


def _init_of_attrs(member: griffe.Class) -> str:
    """The `__init__` that attrs makes from the fields; their converters take more than the field holds."""
    members: list[Any] = list(member.members.values())
    fields = [each for each in members if each.is_attribute and each.annotation is not None]
    parameters = [each.name + (" = ..." if _has_default(each) else "") for each in fields if _is_field(each)]
    return f"def __init__({', '.join(['self', *parameters])}): ..."


def _is_field(attribute: Any) -> bool:
    return not str(attribute.annotation).startswith("ClassVar") and "property" not in attribute.labels


def _has_default(attribute: Any) -> bool:
    value = attribute.value
    if isinstance(value, griffe.ExprCall) and str(value.function) in ("attrs.field", "field"):
        return any(getattr(each, "name", "") in ("default", "factory") for each in value.arguments)
    return value is not None


# Comparing


def breaks(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """What no longer works for a user of the old API."""
    found = [f"{name}: the module was removed" for name in old if name not in new]
    for name in old.keys() & new.keys():
        before, after = _parsed(name, old[name]), _parsed(name, new[name])
        known = list(griffe.find_breaking_changes(before, after))
        found += [_told(each) for each in known]
        found += _type_breaks(before, after)
    return sorted(set(found))


def additions(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """What there is now and was not there before."""
    before = {path for name, text in old.items() for path in _paths(_parsed(name, text))}
    after = [path for name, text in new.items() for path in _paths(_parsed(name, text))]
    added = {path for path in after if path not in before}
    return sorted(f"{path}: was added" for path in added if path.partition("(")[0] not in added or "(" not in path)


def _parsed(name: str, text: str) -> griffe.Module:
    return griffe.visit(name, filepath=Path(f"{name}.pyi"), code=text)


def _paths(node: griffe.Object) -> Iterator[str]:
    for member in node.members.values():
        if isinstance(member, griffe.Object):
            yield member.path
            yield from _paths(member)
            if isinstance(member, griffe.Function):
                yield from (f"{member.path}({each.name})" for each in member.parameters)


def _told(breakage: griffe.Breakage) -> str:
    said = breakage.as_dict()
    path = said["object_path"]
    names = [value.name for value in (breakage.old_value, breakage.new_value) if isinstance(value, griffe.Parameter)]
    before, after = (str(getattr(value, "default", "")) for value in (breakage.old_value, breakage.new_value))
    values = f" ({before}, now {after})" if breakage.kind is griffe.BreakageKind.PARAMETER_CHANGED_DEFAULT else ""
    return (
        f"{path}{f'({names[0]})' if names else ''}: {breakage.kind.value[0].lower()}{breakage.kind.value[1:]}{values}"
    )


def _type_breaks(old: griffe.Object, new: griffe.Object) -> Iterator[str]:
    for name, before in old.members.items():
        after = new.members.get(name)
        if isinstance(before, griffe.Class) and isinstance(after, griffe.Class):
            lost = _ancestors(before, old) - _ancestors(after, new)
            yield from (f"{before.path}: is no longer a {each}" for each in sorted(lost))
            yield from _type_breaks(before, after)
        elif isinstance(before, griffe.Function) and isinstance(after, griffe.Function):
            yield from _signature_breaks(before, after)
        elif isinstance(before, griffe.Attribute) and isinstance(after, griffe.Attribute):
            if str(before.annotation) == "TypeAlias" == str(after.annotation):
                yield from _narrowed(before.path, before.value, after.value)
            else:
                yield from _widened(before.path, before.annotation, after.annotation)


def _signature_breaks(old: griffe.Function, new: griffe.Function) -> Iterator[str]:
    if ("async" in old.labels) is not ("async" in new.labels):
        yield f"{old.path}: is {'now' if 'async' in new.labels else 'no longer'} async"
    if str(old.returns) != "None":  # nobody looks at a None
        yield from _widened(f"{old.path}()", old.returns, new.returns)
    after = {parameter.name: parameter for parameter in new.parameters}
    for parameter in old.parameters:
        if parameter.name in after:
            yield from _narrowed(
                f"{old.path}({parameter.name})", parameter.annotation, after[parameter.name].annotation
            )


def _narrowed(path: str, old: Any, new: Any) -> Iterator[str]:
    before, after = _alternatives(old), _alternatives(new)
    if after and not after & ANYTHING and before - after:
        yield f"{path}: no longer takes {' | '.join(sorted(before - after)) or 'anything'}"
    elif after and not before and not after & ANYTHING:
        yield f"{path}: no longer takes anything"


def _widened(path: str, old: Any, new: Any) -> Iterator[str]:
    before, after = _alternatives(old), _alternatives(new)
    if before and not before & ANYTHING and after - before:
        yield f"{path}: may be {' | '.join(sorted(after - before))} now"
    elif before and not after:
        yield f"{path}: has no type any more"


def _alternatives(annotation: Any) -> set[str]:
    """The members of a union, each as text; none where nothing is said."""
    return set(_flat(ast.parse(str(annotation), mode="eval").body)) if annotation is not None else set()


def _flat(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield from _flat(node.left)
        yield from _flat(node.right)
    else:
        yield ast.unparse(node)


def _ancestors(member: griffe.Class, module: griffe.Object) -> set[str]:
    """The classes that a user can name and that this one is a subclass of."""
    found = {str(base) for base in member.bases}
    for name in list(found):
        known = module.members.get(name)
        if isinstance(known, griffe.Class):
            found |= _ancestors(known, module)
    return found
