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


def test_every_script_and_file_that_it_names_exists() -> None:
    named = set(re.findall(r"`((?:scripts|taskstore|generated)/[\w/.-]*)", README.read_text()))
    assert named
    assert [name for name in named if not (README.parent / name).exists()] == []
