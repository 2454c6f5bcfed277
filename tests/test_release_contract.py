"""Differences planted into a contract: each is found, under one name, and sorted by whom it breaks."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from releases.contract import differences
from releases.schemas import Difference

ROOT = Path(__file__).parent.parent

CONTRACT = yaml.safe_load("""
openapi: 3.1.0
info: {title: shop, version: 1.0.0}
servers: [{url: "http://127.0.0.1:1"}]
security: [{}, {token: []}]
paths:
  /things/{id}:
    get:
      operationId: thing
      tags: [shop]
      parameters:
        - {name: id, in: path, required: true, schema: {type: integer, format: int32}}
        - {name: limit, in: query, schema: {type: integer, minimum: 0, maximum: 10, default: 5}}
        - {name: X-Key, in: header, schema: {type: string, minLength: 1, maxLength: 9, pattern: "^a"}}
      responses:
        "200":
          description: Well.
          headers:
            Age: {required: true, schema: {type: integer}}
            Via: {schema: {type: string}}
          content:
            application/json: {schema: {$ref: "#/components/schemas/Thing"}}
            text/plain: {schema: {type: string}}
        "404": {$ref: "#/components/responses/Missing"}
    delete:
      operationId: remove
      tags: [shop]
      parameters: [{name: id, in: path, required: true, schema: {type: integer}}]
      responses: {"200": {description: Gone.}, "204": {description: Gone before.}}
  /order:
    post:
      operationId: order
      tags: [shop]
      requestBody:
        required: true
        content:
          application/json: {schema: {$ref: "#/components/schemas/Order"}}
          application/x-www-form-urlencoded: {schema: {type: object}}
      responses:
        "200":
          description: Done.
          content: {application/json: {schema: {$ref: "#/components/schemas/Receipt"}}}
components:
  securitySchemes: {token: {type: http, scheme: bearer}}
  responses:
    Missing:
      description: Not there.
      content:
        application/problem+json: {schema: {type: object, required: [title], properties: {title: {type: string}}}}
  schemas:
    Colour: {type: string, enum: [red, blue]}
    Thing:
      type: object
      required: [id, colour]
      properties:
        id: {type: integer, minimum: 1}
        colour: {$ref: "#/components/schemas/Colour"}
        note: {type: string, maxLength: 100}
        parts: {type: array, maxItems: 5, items: {$ref: "#/components/schemas/Thing"}}
        owner: {oneOf: [{$ref: "#/components/schemas/Owner"}, {type: "null"}]}
    Owner: {type: object, properties: {name: {type: string}}}
    Order:
      type: object
      required: [thing]
      if: {required: [gift]}
      then: {required: [card]}
      properties:
        thing: {type: integer, minimum: 1, maximum: 1000}
        count: {type: integer, default: 1}
        words: {type: [array, "null"], minItems: 1, maxItems: 9, items: {type: string}}
        size: {type: string, enum: [small, large]}
        gift: {type: boolean}
        card: {type: string}
    Receipt:
      type: object
      required: [total]
      properties:
        total: {type: number, multipleOf: 0.5}
        state: {type: string, enum: [paid, open]}
        lines: {type: array, uniqueItems: true, items: {type: string}}
""")

Node = dict[str, Any]
Edit = Callable[[Node], object]


def at(contract: Node, path: str) -> Any:
    """The node at an address such as `Order.properties.thing`, which may start with the name of a schema."""
    starts = {
        "thing": contract["paths"]["/things/{id}"]["get"],
        "remove": contract["paths"]["/things/{id}"]["delete"],
        "order": contract["paths"]["/order"]["post"],
        "Missing": contract["components"]["responses"]["Missing"],
        "contract": contract,
        **contract["components"]["schemas"],
    }
    first, *rest = path.split(" ")
    node = starts[first]
    for part in rest:
        node = node[int(part)] if isinstance(node, list) else node[part]
    return node


def put(path: str, **keys: Any) -> Edit:
    return lambda contract: at(contract, path).update(keys)


def drop(path: str, *keys: Any) -> Edit:
    def edit(contract: Node) -> None:
        for key in keys:
            del at(contract, path)[key]

    return edit


def need(schema: str, *names: str) -> Edit:
    return lambda contract: at(contract, schema).update(required=list(names))


def field(schema: str, name: str, **keys: Any) -> Edit:
    return lambda contract: at(contract, f"{schema} properties").update({name: keys})


def both(*edits: Edit) -> Edit:
    return lambda contract: [edit(contract) for edit in edits]


def append(path: str, value: Any) -> Edit:
    return lambda contract: at(contract, path).append(value)


BODY = "order requestBody content"
ANSWER = "thing responses 200"

CLIENTS: dict[str, Edit] = {
    # what they ask for is gone, or has another name
    "POST /order: was removed": drop("contract paths", "/order"),
    "DELETE /things/{id}: was removed": drop("contract paths /things/{id}", "delete"),
    "POST /order: operationId was order, is buy": put("order", operationId="buy"),
    "POST /order: the first of its tags was shop, is desk": put("order", tags=["desk"]),
    "Owner: has no schema of this name any more, and generated code a class": both(
        put(
            "Thing properties",
            owner={"oneOf": [{"type": "object", "properties": {"name": {"type": "string"}}}, {"type": "null"}]},
        ),
        drop("contract components schemas", "Owner"),
    ),
    "contract: server http://127.0.0.1:1 was removed": put("contract", servers=[]),
    "POST /order: may no longer be called with no credentials": put("order", security=[{"token": []}]),
    # what they send is refused, or ignored
    "GET /things/{id}, query parameter limit: was removed": drop("thing parameters", 1),
    "GET /things/{id}, query parameter limit: is required now": put("thing parameters 1", required=True),
    "GET /things/{id}, query parameter limit: maximum was 10, is 9": put("thing parameters 1 schema", maximum=9),
    "GET /things/{id}, query parameter shop: was added, required": append(
        "thing parameters", {"name": "shop", "in": "query", "required": True, "schema": {"type": "string"}}
    ),
    "GET /things/{id}, header parameter X-Key: minLength was 1, is 2": put("thing parameters 2 schema", minLength=2),
    "POST /order, body: was removed": drop("order", "requestBody"),
    "POST /order, body: application/x-www-form-urlencoded was removed": drop(BODY, "application/x-www-form-urlencoded"),
    "Order.thing: maximum was 1000, is 999": put("Order properties thing", maximum=999),
    "Order.count: was removed from the request": drop("Order properties", "count"),
    "Order.count: is required now": need("Order", "thing", "count"),
    "Order.paper: was added to the request, required": both(
        field("Order", "paper", type="string"), need("Order", "thing", "paper")
    ),
    "Order.words: null is no longer allowed": put("Order properties words", type="array"),
    "Order.words: maxItems was 9, is 8": put("Order properties words", maxItems=8),
    'Order.words[]: only "a" or "b" allowed now': put(
        "Order properties words", items={"type": "string", "enum": ["a", "b"]}
    ),
    'Order.size: value "small" was removed': put("Order properties size", enum=["large"]),
    'Order.card: pattern was none, is "x"': put("Order properties card", pattern="x"),
    "Order.count: default was 1, is none": drop("Order properties count", "default"),
    # what they get is not what they read
    "Thing.note: was removed from the answer": drop("Thing properties", "note"),
    "Thing.colour: is no longer required": need("Thing", "id"),
    'Colour: value "green" was added': put("Colour", enum=["red", "blue", "green"]),
    "Thing.id: minimum was 1, is 0": put("Thing properties id", minimum=0),
    "Thing.note: null is allowed now": put("Thing properties note", type=["string", "null"]),
    "Receipt.total: multipleOf was 0.5, is none": drop("Receipt properties total", "multipleOf"),
    "Receipt.lines: elements need no longer be unique": drop("Receipt properties lines", "uniqueItems"),
    "GET /things/{id}, status 200: text/html was added": put(
        f"{ANSWER} content", **{"text/html": {"schema": {"type": "string"}}}
    ),
    "GET /things/{id}, status 202: was added": put("thing responses", **{"202": {"description": "Later."}}),
    "GET /things/{id}, status 200, header via: was removed": drop(f"{ANSWER} headers", "Via"),
    "GET /things/{id}, status 200, header age: is no longer required": put(f"{ANSWER} headers Age", required=False),
}

SERVERS: dict[str, Edit] = {
    # they refuse what a newer client may send
    "GET /things/{id}, query parameter limit: maximum was 10, is 11": put("thing parameters 1 schema", maximum=11),
    "GET /things/{id}, query parameter limit: null is allowed now": put(
        "thing parameters 1 schema", type=["integer", "null"]
    ),
    'GET /things/{id}, header parameter X-Key: pattern was "^a", is none': drop("thing parameters 2 schema", "pattern"),
    'GET /things/{id}, path parameter id: format was "int32", is "int64"': put(
        "thing parameters 0 schema", format="int64"
    ),
    "POST /order, body: is no longer required": put("order requestBody", required=False),
    "POST /order, body: application/yaml was added": put(BODY, **{"application/yaml": {"schema": {"type": "object"}}}),
    "Order.thing: is no longer required": need("Order"),
    "Order.thing: minimum was 1, is none": drop("Order properties thing", "minimum"),
    "Order.thing: type was integer, is number": put("Order properties thing", type="number"),
    'Order.size: value "huge" was added': put("Order properties size", enum=["small", "large", "huge"]),
    'Order.size: no longer only "large" or "small" allowed': drop("Order properties size", "enum"),
    "Order.words: minItems was 1, is none": drop("Order properties words", "minItems"),
    "Order.gift: default was none, is true": put("Order properties gift", default=True),
    "POST /order: may now be called with key": both(
        put("contract components securitySchemes", key={"type": "apiKey", "in": "header", "name": "Key"}),
        put("order", security=[{}, {"token": []}, {"key": []}]),
    ),
    # their answers no longer fit
    "Thing.note: is required now": need("Thing", "id", "colour", "note"),
    "Thing.price: was added to the answer, required": both(
        field("Thing", "price", type="integer"), need("Thing", "id", "colour", "price")
    ),
    "Thing.note: maxLength was 100, is 99": put("Thing properties note", maxLength=99),
    "Thing.owner: null is no longer allowed": put("Thing properties", owner={"$ref": "#/components/schemas/Owner"}),
    'Colour: value "blue" was removed': put("Colour", enum=["red"]),
    'Receipt.state: value "open" was removed': put("Receipt properties state", enum=["paid"]),
    "Receipt.total: type was number, is integer": put("Receipt properties total", type="integer"),
    "GET /things/{id}, status 404: was removed": drop("thing responses", "404"),
    "GET /things/{id}, status 200, header via: is required now": put(f"{ANSWER} headers Via", required=True),
    "GET /things/{id}, status 200, header etag: was added, required": put(
        f"{ANSWER} headers", ETag={"required": True, "schema": {"type": "string"}}
    ),
    "Missing.title: maxLength was none, is 9": put(
        "Missing content application/problem+json schema properties title", maxLength=9
    ),
}

BOTH: dict[str, Edit] = {
    "GET /things/{id}, query parameter limit: is in the header now, and was in the query": put(
        "thing parameters 1", **{"in": "header"}
    ),
    "GET /things/{id}, query parameter limit: default was 5, is 6": put("thing parameters 1 schema", default=6),
    "GET /things/{id}, query parameter limit: style was changed, and whom that breaks cannot be told": put(
        "thing parameters 1", style="pipeDelimited"
    ),
    'GET /things/{id}, header parameter X-Key: pattern was "^a", is "^b"': put(
        "thing parameters 2 schema", pattern="^b"
    ),
    "DELETE /things/{id}, status 204: was removed": drop("remove responses", "204"),
    "GET /things/{id}, status 200: text/plain was removed": drop(f"{ANSWER} content", "text/plain"),
    "Order.count: default was 1, is 2": put("Order properties count", default=2),
    "Order.count: type was integer, is string": put("Order properties count", type="string"),
    "Thing.id: type was integer, is string": put("Thing properties id", type="string"),
    "Order.thing: was removed from the request": both(drop("Order properties", "thing"), need("Order")),
    "Order: then was changed, and what that allows and forbids cannot be told": put("Order", then={}),
}

NOBODY: dict[str, Edit] = {
    "GET /offers: was added": put("contract paths", **{"/offers": {"get": {"operationId": "offers", "responses": {}}}}),
    "PUT /order: was added": put("contract paths /order", put={"operationId": "replace", "responses": {}}),
    "GET /things/{id}, query parameter page: was added, optional": append(
        "thing parameters", {"name": "page", "in": "query", "schema": {"type": "string"}}
    ),
    "DELETE /things/{id}, body: was added, optional": put("remove", requestBody={"content": {}}),
    "Order.paper: was added to the request, optional": field("Order", "paper", type="string"),
    "Order.paper: was added to the request, optional (with null)": field("Order", "paper", type=["string", "null"]),
    "Thing.price: was added to the answer, optional": field("Thing", "price", type="integer"),
    "GET /things/{id}, status 429: was added": put("thing responses", **{"429": {"description": "Slow down."}}),
    "GET /things/{id}, status 200, header etag: was added, optional": put(
        f"{ANSWER} headers", ETag={"schema": {"type": "string"}}
    ),
    "GET /things/{id}: is deprecated now": put("thing", deprecated=True),
    "Order.card: is deprecated now": put("Order properties card", deprecated=True),
    "contract: server http://127.0.0.1:2 was added": append("contract servers", {"url": "http://127.0.0.1:2"}),
}

NOTHING: dict[str, Edit] = {
    "a description": put("Thing", description="A thing."),
    "an example": put("Thing", examples=[{"id": 1, "colour": "red"}]),
    "a summary and a link": both(put("thing", summary="x"), put(ANSWER, links={"x": {"operationId": "order"}})),
    "a schema that gets a name": both(
        put("contract components schemas", Note={"type": "string", "maxLength": 100}),
        put("Thing properties", note={"$ref": "#/components/schemas/Note"}),
    ),
    "null said in another way": put(
        "Order properties",
        words={
            "anyOf": [{"type": "array", "minItems": 1, "maxItems": 9, "items": {"type": "string"}}, {"type": "null"}]
        },
    ),
    "the order of a union, of required and of parameters": both(
        put("Thing", required=["colour", "id"]),
        put("Thing properties owner", oneOf=[{"type": "null"}, {"$ref": "#/components/schemas/Owner"}]),
        lambda contract: at(contract, "thing parameters").reverse(),
    ),
    "the letter case of a header": put("thing parameters 2", name="x-key"),
    "a bound that says nothing": put("Thing properties note", minLength=0),
    "parameters that are said of the path": both(
        put("contract paths /things/{id}", parameters=CONTRACT["paths"]["/things/{id}"]["get"]["parameters"][:1]),
        drop("thing parameters", 0),
    ),
    "an extension": put("Thing", **{"x-colour": "red"}),
}


def planted(edit: Edit) -> list[Difference]:
    new = deepcopy(CONTRACT)
    edit(new)
    return differences(CONTRACT, new)


def test_a_contract_does_not_differ_from_itself() -> None:
    assert differences(CONTRACT, deepcopy(CONTRACT)) == []


@pytest.mark.parametrize(("what", "edit"), CLIENTS.items(), ids=list(CLIENTS))
def test_what_breaks_clients(what: str, edit: Edit) -> None:
    assert [(str(each), each.clients, each.servers) for each in planted(edit)] == [(what, True, False)]


@pytest.mark.parametrize(("what", "edit"), SERVERS.items(), ids=list(SERVERS))
def test_what_breaks_servers(what: str, edit: Edit) -> None:
    assert [(str(each), each.clients, each.servers) for each in planted(edit)] == [(what, False, True)]


@pytest.mark.parametrize(("what", "edit"), BOTH.items(), ids=list(BOTH))
def test_what_breaks_both(what: str, edit: Edit) -> None:
    assert [(str(each), each.clients, each.servers) for each in planted(edit)] == [(what, True, True)]


@pytest.mark.parametrize(("what", "edit"), NOBODY.items(), ids=list(NOBODY))
def test_what_breaks_nobody(what: str, edit: Edit) -> None:
    expected = what.removesuffix(" (with null)")
    assert [(str(each), each.breaking) for each in planted(edit)] == [(expected, False)]


@pytest.mark.parametrize("edit", NOTHING.values(), ids=list(NOTHING))
def test_what_is_no_difference(edit: Edit) -> None:
    assert planted(edit) == []


def test_the_name_of_a_path_parameter_is_only_a_name_in_generated_code() -> None:
    new = deepcopy(CONTRACT)
    new["paths"]["/things/{key}"] = new["paths"].pop("/things/{id}")
    for operation in new["paths"]["/things/{key}"].values():
        operation["parameters"][0]["name"] = "key"
    assert {(str(each), each.clients, each.servers) for each in differences(CONTRACT, new)} == {
        ("DELETE /things/{key}, path parameter key: was named id", True, False),
        ("GET /things/{key}, path parameter key: was named id", True, False),
    }


def test_what_travels_both_ways_breaks_whoever_is_hurt_on_either() -> None:
    """A component that is sent and answered: wider hurts clients in the answer, and servers in the request."""
    old = deepcopy(CONTRACT)
    old["components"]["schemas"]["Order"]["properties"]["size"] = {"$ref": "#/components/schemas/Colour"}
    new = deepcopy(old)
    new["components"]["schemas"]["Colour"]["enum"].append("green")
    assert differences(old, new) == [Difference("Colour", 'value "green" was added', clients=True, servers=True)]


def test_a_difference_in_our_own_contract_is_found() -> None:
    old = yaml.safe_load((ROOT / "openapi.yaml").read_text())
    new = deepcopy(old)
    assert differences(old, new) == []
    new["components"]["schemas"]["Limit"]["default"] = 7
    new["components"]["schemas"]["Task"]["required"].remove("data")
    new["paths"]["/claim"]["post"]["responses"]["429"] = {"description": "Slow down."}
    assert [(str(each), each.clients, each.servers) for each in differences(old, new)] == [
        ("Limit: default was 0, is 7", True, True),
        ("Task.data: is no longer required", True, False),
        ("POST /claim, status 429: was added", False, False),
    ]
