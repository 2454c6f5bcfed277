"""The README's tour is a program, and it runs."""

import re
from pathlib import Path

from taskstore.testing import LiveServer

README = Path(__file__).parent.parent / "README.md"


def test_the_python_of_the_tour_runs_from_top_to_bottom(server: LiveServer) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 8
    program = "\n".join(blocks).replace("http://127.0.0.1:8048", server.url)
    exec(compile(program, str(README), "exec"), {"__name__": "tour"})


def test_the_layout_names_every_script_and_every_package() -> None:
    layout = README.read_text().partition("## Layout\n")[2]
    root = README.parent
    scripts = [file for file in (root / "scripts").iterdir() if file.is_dir() or not file.suffix]
    packages = [file.parent for file in (root / "taskstore").glob("*/__init__.py")]
    named = [str(file.relative_to(root)) for file in (*scripts, *packages) if file.name != "__pycache__"]
    assert len(named) >= 14
    assert [name for name in named if f"`{name}`" not in layout and f"`{name}/`" not in layout] == []


def test_every_script_and_file_that_it_names_exists() -> None:
    named = set(re.findall(r"`((?:scripts|taskstore|generated)/[\w/.-]*)", README.read_text()))
    assert named
    assert [name for name in named if not (README.parent / name).exists()] == []
