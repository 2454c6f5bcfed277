"""The comparison of schemas is sound: what it does not call narrowed, a validator does not refuse.

Fields are neither added nor removed here, for a new one is let through on purpose, though a validator would refuse what
stood under its name before. Of `oneOf` the comparison takes for granted that alternatives do not overlap.
"""

from typing import Any

from hypothesis import assume, example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from releases.schemas import Difference, Schemas, Side

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 5), st.sampled_from([0.5, 1.5]), st.sampled_from(["", "a", "ab", "abc"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y"]), inner, max_size=2),
    max_leaves=5,
)
TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])


def some(**keywords: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keywords)


SMALL = st.integers(0, 3)
SIMPLE = some(
    type=TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
    enum=st.lists(SCALARS, min_size=1, max_size=3, unique_by=repr),
    minimum=SMALL,
    exclusiveMaximum=SMALL,
    minLength=SMALL,
    maxLength=SMALL,
    minItems=SMALL,
    maxItems=SMALL,
    multipleOf=st.sampled_from([1, 2, 0.5]),
    pattern=st.sampled_from(["^a", "b$"]),
    uniqueItems=st.booleans(),
)
SCHEMAS = st.recursive(
    SIMPLE | st.booleans(),
    lambda inner: st.one_of(
        st.builds(lambda schema, items: {**schema, "items": items}, SIMPLE, inner),
        st.builds(
            lambda x, y, required: {"properties": {"x": x, "y": y}, "required": required},
            inner,
            inner,
            st.lists(st.sampled_from(["x", "y"]), unique=True),
        ),
        st.builds(lambda branches: {"anyOf": branches}, st.lists(inner, min_size=1, max_size=2)),
        st.builds(lambda branches: {"allOf": branches}, st.lists(inner, min_size=1, max_size=2)),
        st.builds(lambda inner: {"anyOf": [inner, {"type": "null"}]}, inner),
        st.builds(lambda inner: {"not": inner}, inner),
    ),
    max_leaves=4,
)


def compared(old: Any, new: Any) -> list[Difference]:
    found = list(Schemas({}, {}).differences(old, new, Side.REQUEST, "value"))
    assume(not any(" the request" in each.what for each in found))  # that is, no field was added or removed
    return found


@given(SCHEMAS, SCHEMAS, st.lists(VALUES, min_size=1, max_size=20))
@example({"type": "integer"}, {"type": "number"}, [0.5])
@example({"type": "integer", "minimum": 0}, {"type": "integer", "exclusiveMaximum": 3}, [-1, 3])
@example({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"type": ["string", "null"], "minLength": 1}, ["", None])
@example({"anyOf": [False, {"type": "null"}]}, {"not": {}}, [None])
@example({"anyOf": [False]}, {"anyOf": [False, {"type": "null"}]}, [None])
@example({"anyOf": [True, {"type": "null"}]}, {"enum": [None]}, [1, None])
@example({"anyOf": [{"enum": [1]}, {"type": "null"}]}, {"enum": [1]}, [1, None])
def test_a_validator_agrees(old: Any, new: Any, values: list[Any]) -> None:
    found = compared(old, new)
    narrows, widens = any(each.clients for each in found), any(each.servers for each in found)
    for value in values:
        before, after = (Draft202012Validator(schema).is_valid(value) for schema in (old, new))
        assert narrows or not before or after, (value, found)
        assert widens or before or not after, (value, found)


@given(SCHEMAS, SCHEMAS)
def test_the_way_back_breaks_the_others(old: Any, new: Any) -> None:
    there, back = compared(old, new), compared(new, old)
    assert sorted((each.where, each.clients, each.servers) for each in there) == sorted(
        (each.where, each.servers, each.clients) for each in back
    )
