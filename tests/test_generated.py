"""generated/ is what openapi.yaml says, openapi.yaml is sound, and a change of it goes all the way through.

The last part is the recipe for changing the protocol, carried out on a copy: edit openapi.yaml, run
scripts/regenerate, and the type checker shows what in wire.py has to follow.
"""

import importlib
import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import openapi_spec_validator
import pytest
import taskstore_api
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

ROOT = Path(__file__).parent.parent
CONTRACT: dict[str, Any] = yaml.safe_load((ROOT / "openapi.yaml").read_text())
REGISTRY = Registry[Any]().with_resource("urn:contract", Resource.from_contents(CONTRACT, DRAFT202012))


def run(*command: str | Path, cwd: Path = ROOT) -> tuple[int, str]:
    """What a command of this Python exits with and says."""
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout


def regenerate(*options: str | Path) -> tuple[int, str]:
    return run(ROOT / "scripts" / "regenerate", *options)


# What is committed


def test_generated_is_what_the_contract_says() -> None:
    code, said = regenerate("--check")
    assert said.splitlines()[-1].startswith("generated/ is what openapi.yaml says")
    assert code == 0


def test_every_generated_module_can_be_imported() -> None:
    names = [module.name for module in pkgutil.walk_packages(taskstore_api.__path__, "taskstore_api.")]
    assert "taskstore_api.models.task" in names
    for name in names:
        importlib.import_module(name)


OPERATIONS = [
    operation for path in CONTRACT["paths"].values() for method, operation in path.items() if method in ("get", "post")
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation["operationId"])
def test_every_operation_has_a_module_of_its_name(operation: dict[str, Any]) -> None:
    module = importlib.import_module(f"taskstore_api.api.{operation['tags'][0]}.{operation['operationId']}")
    assert callable(module._get_kwargs)


# The contract itself


def test_the_contract_is_valid_openapi() -> None:
    openapi_spec_validator.validate(CONTRACT)


def examples(node: Any, pointer: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every example in the contract: where it stands, the schema that it has to fit, and the example."""
    for key, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        here = f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"
        if key == "examples" and isinstance(child, list):
            yield from ((f"{here}/{n}", pointer, example) for n, example in enumerate(child))
        elif key == "examples":
            yield from ((f"{here}/{name}", f"{pointer}/schema", each["value"]) for name, each in child.items())
        elif key == "example":
            yield here, f"{pointer}/schema", child
        else:
            yield from examples(child, here)


@pytest.mark.parametrize(
    ("schema", "example"), [pytest.param(schema, example, id=where) for where, schema, example in examples(CONTRACT)]
)
def test_examples_fit_their_schemas(schema: str, example: Any) -> None:
    validator = Draft202012Validator({"$ref": f"urn:contract#{quote(schema)}"}, registry=REGISTRY)
    assert [error.message for error in validator.iter_errors(example)] == []


def test_an_example_that_does_not_fit_would_be_found() -> None:
    schema = {"$ref": "urn:contract#/components/schemas/Task"}
    validator = Draft202012Validator(schema, registry=REGISTRY)
    task = CONTRACT["components"]["schemas"]["Task"]["examples"][0]
    assert validator.is_valid(task)
    assert not validator.is_valid(task | {"id": 0})


# The recipe, on a copy


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout with what a change of the protocol goes through."""
    for name in ("generated", "taskstore"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("openapi.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def edit(copy: Path, change: Callable[[dict[str, Any]], None]) -> None:
    contract = yaml.safe_load((copy / "openapi.yaml").read_text())
    change(contract)
    (copy / "openapi.yaml").write_text(yaml.safe_dump(contract, sort_keys=False))


def add_field(contract: dict[str, Any]) -> None:
    fields = contract["components"]["schemas"]["ClaimRequest"]["properties"]
    fields["colour"] = {"type": "string", "maxLength": 9, "description": "Of which colour.", "examples": ["red"]}


def require_field(contract: dict[str, Any]) -> None:
    add_field(contract)
    contract["components"]["schemas"]["ClaimRequest"]["required"].append("colour")


def add_operation(contract: dict[str, Any]) -> None:
    schema = {"type": "array", "items": {"type": "string"}}
    answer = {"description": "The names.", "content": {"application/json": {"schema": schema}}}
    contract["paths"]["/colours"] = {"get": {"operationId": "colours", "tags": ["store"], "responses": {"200": answer}}}


def test_a_new_field_and_a_new_operation_go_through(copy: Path) -> None:
    edit(copy, add_field)
    edit(copy, add_operation)
    code, said = regenerate("--check", "--tree", copy)
    assert code == 1
    assert "api/store/colours.py" in said
    assert "models/claim_request.py" in said
    (stale := copy / "generated" / "taskstore_api" / "api" / "store" / "stale.py").touch()

    assert regenerate("--tree", copy)[0] == 0
    assert not stale.exists()
    assert regenerate("--check", "--tree", copy)[0] == 0
    code, said = run(
        "-c",
        "from taskstore_api.api.store import colours; from taskstore_api.models import ClaimRequest;"
        "claim = ClaimRequest(clientid=1, group='map', duration=1, colour='red');"
        "print(colours._get_kwargs()['url'], claim.to_dict()['colour'])",
        cwd=copy / "generated",
    )
    assert said.split() == ["/colours", "red"]


def test_the_type_checker_shows_what_has_to_follow_a_new_required_field(copy: Path) -> None:
    edit(copy, require_field)
    assert regenerate("--tree", copy)[0] == 0
    code, said = run("-m", "mypy", "taskstore/wire.py", cwd=copy)
    assert code == 1
    assert "taskstore/wire.py" in said
    assert '"colour"' in said


def test_generated_is_left_alone_where_the_generator_fails_or_has_a_warning(copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (copy / "generated").rglob("*.py")}
    edit(copy, lambda contract: contract["components"]["schemas"]["Task"]["properties"].update(odd={"$ref": "#/no"}))
    code, said = regenerate("--tree", copy)
    assert code == 1
    assert "generated/ is as it was" in said
    assert {path: path.stat().st_mtime_ns for path in (copy / "generated").rglob("*.py")} == before


def test_another_ruff_on_the_path_has_no_say(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copy / "bin").mkdir()
    (other := copy / "bin" / "ruff").write_text("#!/bin/sh\nexit 7\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(copy / "bin"), prepend=":")
    assert regenerate("--check")[0] == 0
