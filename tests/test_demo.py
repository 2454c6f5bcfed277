"""The demo: no word is cut, who is too late does no harm, a run is exact, and a wrong count would be seen."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import unicodedata
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore import Done, HTTPClient, StoreError, TaskInfo, TaskResponseError, TaskStoreError, UsageError
from taskstore.demo import Settings, run, show, timeline, words
from taskstore.demo.coordinator import Coordinator
from taskstore.demo.groups import Entry, Groups, Held, Order, Story
from taskstore.demo.processes import Crew
from taskstore.demo.worker import Hand
from taskstore.testing import LiveServer

SECOND = 10**9
PIECES = [
    b"word",
    b" ",
    b"\n",
    b"_9",
    b"'",
    b"\xff",
    b"\xc3",
    "é".encode(),
    "日本".encode(),
    b"\xe2\x80",
    b"\x00",
    b"x" * 70,
]
BYTES = st.lists(st.sampled_from(PIECES)).map(b"".join) | st.binary()


def counted(data: bytes) -> Counter[str]:
    return Counter(words.WORD.findall(data.decode("utf-8", "replace")))


# Words and chunks


@given(BYTES, st.integers(1, 100))
def test_chunks_cover_all_and_cut_no_word(data: bytes, size: int) -> None:
    cuts = list(words.cuts(io.BytesIO(data), size))
    chunks = [data[offset : offset + length] for offset, length in cuts]
    assert b"".join(chunks) == data
    assert all(len(chunk) >= size for chunk in chunks[:-1])
    assert sum(map(counted, chunks), Counter()) == counted(data)


def test_cutting_just_anywhere_would_be_seen() -> None:
    assert counted(b"one wo") + counted(b"rd") != counted(b"one word")


@given(BYTES, st.integers(1, 3))
def test_counting_chunks_is_counting_files(tmp_path_factory: pytest.TempPathFactory, data: bytes, files: int) -> None:
    directory = tmp_path_factory.mktemp("a:b", numbered=True)
    names = [str(directory / f"{number}:0:1") for number in range(files)]
    for name in names:
        Path(name).write_bytes(data + b"\nThe end")
    chunks = words.chunks(names, at_least=10)
    assert sum(map(words.count_chunk, chunks), Counter()) == words.count_files(names)
    assert words.count_files(names)["end"] >= files


def test_words_are_lowered_alike_whatever_stands_around(tmp_path: Path) -> None:
    text = "ΟΔΟΣ'Ω " * 2000  # As a text, this sigma would be lowered according to what follows the apostrophe.
    (tmp_path / "a").write_text(text, encoding="utf-8")
    chunks = words.chunks([str(tmp_path / "a")], at_least=100)
    assert len(chunks) > 1
    assert sum(map(words.count_chunk, chunks), Counter()) == Counter({"οδος": 2000, "ω": 2000})


@given(st.dictionaries(st.text("abcdé日", min_size=1), st.integers(1, 10**12)), st.integers(1, 9))
def test_shards_and_data_lose_nothing(counts: dict[str, int], shards: int) -> None:
    split = words.split_by_shard(Counter(counts), shards)
    assert set(split) <= set(range(shards))
    assert words.summed(data for part in split.values() for data in words.written(part)) == Counter(counts)


def test_the_shard_of_a_word_is_the_same_in_every_process() -> None:
    assert words.split_by_shard(Counter(["self", "été"]), 8) == {3: Counter(["self"]), 4: Counter(["été"])}


def test_counts_are_spread_over_tasks_that_are_not_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "LARGEST_DATA", 100)
    counts = Counter({f"été{number}": number for number in range(1, 100)})
    data = list(words.written(counts))
    assert max(len(each.encode()) for each in data) <= 100
    assert words.summed(data) == counts


def test_of_a_directory_nothing_hidden_is_taken_and_no_file_twice(tmp_path: Path) -> None:
    for name in ["b/two.txt", "a.txt", ".git/config", "b/.hidden"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "dangling").symlink_to("nowhere")
    expected = [str(tmp_path / "a.txt"), str(tmp_path / "b" / "two.txt")]
    assert words.input_files([str(tmp_path), str(tmp_path / "a.txt")]) == expected


def test_by_default_the_standard_library_is_counted() -> None:
    files = words.input_files([])
    assert any(file.endswith("/collections/__init__.py") for file in files)
    assert all(file.endswith(".py") and "site-packages" not in file for file in files)


def test_what_cannot_be_counted_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "none").mkdir()
    os.mkfifo(tmp_path / "pipe")
    nameless = os.fsencode(tmp_path) + b"/\xff"
    Path(os.fsdecode(nameless)).write_text("x")
    for paths, complaint in [
        ([tmp_path / "none"], "there is no file to count"),
        ([tmp_path / "missing"], "missing does not exist"),
        ([tmp_path / "pipe"], "neither a file nor a directory"),
    ]:
        with pytest.raises(UsageError, match=complaint):
            words.input_files(list(map(str, paths)))
    for file, complaint in [
        (str(tmp_path / "empty"), "empty is empty"),
        (str(tmp_path / "missing"), "cannot read .*missing: No such file"),
        (os.fsdecode(nameless), "rename the file"),
    ]:
        with pytest.raises(UsageError, match=complaint):
            words.chunks([file], at_least=1)


# What is shown

KILLED = Held(1, "kill", 11, "/src/a<&>\x01\x1b[31m.py:0:9", 1 * SECOND, 2 * SECOND)
HEIR = Held(2, "map", 12, KILLED.data, 4 * SECOND, 5 * SECOND)
LATE = Held(2, "lost", 13, "/src/b.py:0:9", 1 * SECOND, 2 * SECOND)
REDUCED = Held(2, "reduce", 14, "0", 5 * SECOND, 6 * SECOND)


@pytest.mark.parametrize(
    ("held", "boxes"),
    [
        ((), []),
        ((REDUCED,), ["reduce"]),
        ((KILLED,), ["kill"]),
        ((KILLED, LATE, HEIR, REDUCED), ["kill", "lost", "heir", "reduce"]),
    ],
)
def test_the_timeline_is_xml_and_shows_each_task(held: tuple[Held, ...], boxes: list[str]) -> None:
    root = ET.fromstring(timeline.drawn(Story(2, 2 * SECOND, held)))
    tag = "{http://www.w3.org/2000/svg}"
    shown = [box.attrib["class"] for box in root.iter(f"{tag}rect") if box.find(f"{tag}title") is not None]
    assert shown == boxes
    words_in_it = " ".join(text.text or "" for text in root.iter(f"{tag}text"))
    assert ("killed, holding task 11" in words_in_it) == ("heir" in boxes)


def test_the_end_is_told_in_words() -> None:
    told = said(show.told(Story(2, 2 * SECOND, (KILLED, LATE, HEIR)), 1000))
    assert told == (
        "Worker 1 was killed while it held map task 11, src/a<&>\ufffd\ufffd[31m.py:0:9. "
        "Its lease ran out 1.0 s later; 1.0 s after that worker 2 claimed the same chunk, now as task 12, "
        "and finished it. "
        "The store refused 1 result whose lease had run out before.\n"
    )
    assert "had run out just before" in said(show.told(Story(2, SECOND // 2, (KILLED, HEIR)), 1000))
    assert said(show.told(Story(2, SECOND, (REDUCED,)), 80)) == "No worker was killed.\n"


def said(parts: list[show.Part]) -> str:
    return "".join(part if isinstance(part, str) else part[0] for part in parts)


@given(st.dictionaries(st.text(st.characters(categories=["L", "N"]), min_size=1), st.integers(1, 10**9)), st.data())
def test_the_chart_fits_the_terminal(counts: dict[str, int], data: st.DataObject) -> None:
    columns = data.draw(st.integers(30, 100))
    for line in said(show.top_words(Counter(counts), columns)).splitlines():
        wide = sum(unicodedata.east_asian_width(character) in "WF" for character in line)
        assert len(line) + wide <= columns


def test_the_chart_does_without_block_characters() -> None:
    chart = said(show.top_words(Counter(one=4, two=2), 30, "ascii"))
    assert chart == "\nThe most frequent words\n  one  ####################  4\n  two  ##########            2\n"


class Terminal(io.TextIOWrapper):
    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def isatty(self) -> bool:
        return True

    def shown(self) -> str:
        self.seek(0)
        return self.read()


def test_a_terminal_gets_bars_if_rich_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with show.screen() as screen:
        assert isinstance(screen, show.RichScreen)
        screen.say(("bold", "bold"), " and [plain]")
        screen.progress(Story(2, SECOND, (KILLED, HEIR)), 4, 8)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.shown())
    assert "bold and [plain]" in shown
    assert re.search(r"map tasks +━.* 1/4", shown)
    assert re.search(r"worker 1, killed +━.* 0/4", shown)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    assert type(show.screen()) is show.Screen


def test_without_a_terminal_there_are_few_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with show.screen() as screen:
        for done in range(101):
            screen.progress(Story(2, SECOND, (HEIR,) * done), 100, 8)
    lines = [f"map tasks: {done} of 100" for done in (25, 50, 75, 100)]
    assert capsys.readouterr().out.splitlines() == lines


# Workers that are too late


@contextmanager
def crew_of(server: LiveServer, number: int) -> Iterator[list[Hand]]:
    """Workers 1, 2, ... of one run, with leases of a second, in this process."""
    hands = []
    for each in range(1, number + 1):
        order = Order(server.url, "run", each, SECOND, 1, os.getppid())
        hands.append(Hand(HTTPClient(server.url, client_id=1000 + each), Groups("run"), order, page=2))
    yield hands
    for one in hands:
        one.client.close()


def log_of(client: HTTPClient, groups: Groups) -> list[tuple[str, int, int]]:
    entries = [Entry.of(task) for task in client.group(groups.log)]
    return [(entry.kind, entry.worker, entry.id) for entry in entries]


def claimed(hand: Hand, group: str) -> TaskInfo:
    task = hand.client.claim(group, SECOND)
    assert task
    return task


def settle(hand: Hand, task: TaskInfo, outcome: Done) -> None:
    hand.client.update(adds=outcome.adds, deletes=[task, *outcome.deletes])


def test_who_comes_too_late_with_a_map_task_adds_nothing(server: LiveServer, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one two one")
    with crew_of(server, 2) as (late, other):
        late.client.update(adds=[TaskInfo("run/map", f"{tmp_path}/a:0:11")])
        first = claimed(late, "run/map")
        server.clock.advance(SECOND)
        second = claimed(other, "run/map")
        with pytest.raises(TaskResponseError):
            settle(late, first, late.map(first))
        assert late.client.group("run/shard/0") == []
        settle(other, second, other.map(second))
        with pytest.raises(TaskResponseError):
            settle(late, first, late.map(first))
        assert [json.loads(task.data) for task in late.client.group("run/shard/0")] == [{"one": 2, "two": 1}]
        assert log_of(late.client, late.groups) == [("map", 2, second.id)]
        late.lost(first)
        assert log_of(late.client, late.groups)[-1] == ("lost", 1, first.id)


def test_who_has_lost_its_token_sums_up_nothing(server: LiveServer) -> None:
    with crew_of(server, 2) as (late, other):
        counts = [TaskInfo("run/shard/0", json.dumps({"one": 1})) for _ in range(5)]
        run, *_ = late.client.update(adds=[TaskInfo("run/run"), TaskInfo("run/reduce", "0"), *counts])
        first = claimed(late, "run/reduce")
        outcome = late.reduce(first)
        server.clock.advance(SECOND)
        other._work_on("run/reduce", other.reduce, run)
        with pytest.raises(TaskResponseError):
            settle(late, first, outcome)
        assert late.client.groups() == ["run/log", "run/result/0", "run/run"]
        results = [json.loads(task.data) for task in late.client.group("run/result/0")]
        assert sorted(result["one"] for result in results) == [1, 2, 2]
        assert [entry[:2] for entry in log_of(late.client, late.groups)] == [("reduce", 2)]


def test_no_one_reduces_while_a_map_task_is_claimed(server: LiveServer, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one two one")
    with crew_of(server, 2) as (one, other):
        one.client.update(adds=[TaskInfo("run/run"), TaskInfo("run/map", f"{tmp_path}/a:0:11")])
        one.client.update(adds=[TaskInfo("run/reduce", "0")])
        held = claimed(other, "run/map")
        working = threading.Thread(target=one.work)
        working.start()
        time.sleep(0.5)
        assert [token.attempts for token in one.client.group("run/reduce")] == [0]
        settle(other, held, other.map(held))
        working.join(30)
        assert [json.loads(task.data) for task in one.client.group("run/result/0")] == [{"one": 2, "two": 1}]


def test_the_end_of_the_run_ends_the_workers(server: LiveServer) -> None:
    with crew_of(server, 1) as [hand]:
        [run, *_] = hand.client.update(
            adds=[TaskInfo("run/run"), TaskInfo("run/map", "x"), TaskInfo("run/reduce", "0")]
        )
        hand.client.update(deletes=[run])
        hand._work_on("run/map", hand.map, run)
        assert hand.client.groups() == ["run/map", "run/reduce"]


class SlowToKill(Crew):
    """Kills the first of its workers so slowly that the lease runs out and another worker claims the task."""

    def __init__(self, server: LiveServer, other: Hand) -> None:
        super().__init__({}, Path(), None)
        self.server, self.other = server, other
        self.killed: list[int] = []

    def alive(self) -> set[int]:
        return {1, 2} - set(self.killed)

    def kill(self, number: int) -> None:
        self.killed.append(number)
        if self.killed == [1]:
            self.server.clock.advance(SECOND)
            claimed(self.other, "run/map")


def test_a_kill_counts_only_if_the_victim_held_the_task_when_it_died(server: LiveServer) -> None:
    with crew_of(server, 2) as (one, other), HTTPClient(server.url, client_id=1003) as client:
        crew = SlowToKill(server, other)
        settings = Settings(workers=2, lease_ns=SECOND)
        coordinating = Coordinator(client, one.groups, crew, settings, show.Screen())
        for each in (one, other):
            each.client.update(adds=[Entry("ready", each.order.number).task(each.groups)])
        coordinating._read_log()
        coordinating._plan(["a:0:1"])
        coordinating._strike()
        assert crew.killed == []  # Nobody holds it.
        claimed(one, "run/map")
        coordinating._strike()
        assert (crew.killed, client.group("run/log")) == ([1], [])
        assert client.group("run/kill") != []
        coordinating._strike()
        assert crew.killed == [1, 2]
        assert client.group("run/kill") == []
        coordinating._read_log()
        assert [(held.kind, held.worker) for held in coordinating._held] == [("kill", 2)]


# The whole


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A directory with a text in several chunks, one that is no UTF-8, and an empty one."""
    directory = tmp_path / "texts"
    directory.mkdir()
    (directory / "long: text").write_text("So it goes, été après été. " * 2000, encoding="utf-8")
    (directory / "bytes").write_bytes(bytes(range(256)) * 100)
    (directory / "empty").touch()
    return directory


def started(texts: Path, svg: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "taskstore", "demo", str(texts), "--svg", str(svg), *options]
    environment = {**os.environ, "TMPDIR": str(_empty(svg.parent / "tmp"))}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def _empty(directory: Path) -> Path:
    directory.mkdir()
    return directory


def assert_nothing_is_left(output: str, tmp_path: Path) -> None:
    assert list((tmp_path / "tmp").iterdir()) == []
    url = re.search(r"http://[0-9.:]+", output)
    assert url
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(url[0] + "/groups", timeout=10)


def test_a_run_with_its_kill_is_exact_and_leaves_only_its_timeline(texts: Path, tmp_path: Path) -> None:
    with started(texts, tmp_path / "t.svg", "--lease", "0.5") as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert re.search(r"^Worker (\d) was killed .* worker (?!\1)\d claimed the\s+same", output, re.DOTALL | re.MULTILINE)
    assert re.search(r"^  été +█+ +4,000$", output, re.MULTILINE)
    assert output.splitlines()[-1].startswith("exact: ")
    assert 'class="kill"' in (tmp_path / "t.svg").read_text(encoding="utf-8")
    assert_nothing_is_left(output, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_leaves_nothing_behind(number: signal.Signals, texts: Path, tmp_path: Path) -> None:
    output = ""
    with started(texts, tmp_path / "t.svg", "--lease", "60") as process:
        assert process.stdout
        while "killed" not in output:
            output += process.stdout.readline()
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert errors == ("taskstore: interrupted\n" if number == signal.SIGINT else "")
    assert_nothing_is_left(output, tmp_path)


def test_a_server_of_somebody_else_is_left_as_it_was(server: LiveServer, texts: Path, tmp_path: Path) -> None:
    with HTTPClient(server.url) as client:
        client.update(adds=[TaskInfo("theirs")])
        settings = Settings([str(texts)], workers=2, kill=False, url=server.url, svg=str(tmp_path / "t.svg"))
        assert run(settings) == 0
        assert client.groups() == ["theirs"]


def test_a_wrong_count_is_exit_code_1(
    server: LiveServer,
    texts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = words.count_files
    monkeypatch.setattr(words, "count_files", lambda files: right(files) + Counter(["été", "never"]))
    settings = Settings([str(texts)], workers=2, kill=False, url=server.url, svg=str(tmp_path / "t.svg"))
    assert run(settings) == 1
    assert capsys.readouterr().out.endswith(
        "NOT exact: 2 counts differ from those of collections.Counter\n"
        "  never: 0 counted, 1 expected\n"
        "  été: 4,000 counted, 4,001 expected\n"
        "Did a file change meanwhile? If not, this is a bug.\n"
    )


def test_a_server_that_does_not_start_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(StoreError, match="did not start"):
        run(Settings([__file__], svg=str(tmp_path / "t.svg")))


def test_workers_that_do_not_start_are_said(
    server: LiveServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Order, "written", lambda order: "{}")
    with pytest.raises(TaskStoreError, match="too few workers"):
        run(Settings([__file__], url=server.url, svg=str(tmp_path / "t.svg")))
    assert re.search(r"Worker \d has ended: TypeError: ", capsys.readouterr().out)
