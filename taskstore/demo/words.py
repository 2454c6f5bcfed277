"""The words: which files there are, how they are cut into chunks, and how the words of a chunk are counted.

The laws of this room: it knows files, text and counts, and no store; a cut never splits a word or a character; text is
decoded in one way only, bytes that are no UTF-8 becoming U+FFFD, which belongs to no word.
"""

import json
import os
import re
import sysconfig
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from taskstore.errors import UsageError

WORD: Final = re.compile(r"\w{1,64}")
"""A word: letters, digits and underscores of any script. What is longer than 64 counts as several, so that no word is
too long for a task."""

_BOUNDARY: Final = re.compile(rb"[^\w\x80-\xff]", re.ASCII)
"""A byte before and after which a cut splits neither a word nor a character: ASCII, and no part of a word."""

_NOT_OURS: Final = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"}
"""Directories beside the standard library proper. Not every machine has its tests."""

LARGEST_CHUNK: Final = 256 * 1024
SMALLEST_CHUNK: Final = 4 * 1024
LARGEST_DATA: Final = 512 * 1024
"""How many bytes of counts one task holds; a server takes 1 MiB unless told otherwise."""


def input_files(paths: Sequence[str]) -> list[str]:
    """The files to count: `paths` and what is in the directories among them, or the standard library's source files.

    Each is absolute and comes once. Of a directory only regular files are taken, and nothing hidden.

    Raises:
        UsageError: a path does not exist or cannot be read, or there is no file at all.
    """
    if paths:
        found = [file for path in paths for file in _files_at(path)]
    else:
        found = [file for file in _walk(sysconfig.get_path("stdlib"), _NOT_OURS) if file.endswith(".py")]
    files = list(dict.fromkeys(map(os.path.abspath, found)))
    if not files:
        raise UsageError(f"there is no file to count in {', '.join(paths) or sysconfig.get_path('stdlib')}")
    return files


def _files_at(path: str) -> Iterable[str]:
    if Path(path).is_dir():
        return _walk(path)
    if Path(path).is_file():
        return [path]
    raise UsageError(f"{path} {'is neither a file nor a directory' if Path(path).exists() else 'does not exist'}")


def _walk(top: str, skipped: Iterable[str] = ()) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise UsageError(f"cannot read {error.filename}: {error.strerror}")

    for directory, names, files in os.walk(top, onerror=refuse):
        names[:] = sorted(name for name in names if name not in skipped and not name.startswith("."))
        for name in sorted(files):
            file = Path(directory, name)
            if not name.startswith(".") and file.is_file():
                yield str(file)


def chunks(files: Sequence[str], at_least: int) -> list[str]:
    """`files` cut into chunks `path:offset:length`, if possible `at_least` so many.

    Raises:
        UsageError: a file cannot be read, or its name is no text, or there is nothing in any of them.
    """
    try:
        total = sum(Path(file).stat().st_size for file in files)
        size = min(max(total // at_least, SMALLEST_CHUNK), LARGEST_CHUNK)
        found = [chunk for file in files for chunk in _chunks_of(file, size)]
    except OSError as error:
        raise UsageError(f"cannot read {error.filename}: {error.strerror}") from error
    if not found:
        raise UsageError(f"nothing to count: {'all files are' if len(files) > 1 else f'{files[0]} is'} empty")
    return found


def _chunks_of(path: str, size: int) -> Iterator[str]:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UsageError(f"the name of the file {path!a} is no text, so no task can say it: rename the file") from None
    with Path(path).open("rb") as file:
        for offset, length in cuts(file, size):
            yield f"{path}:{offset}:{length}"


def cuts(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """Where to cut `file`, as (offset, length): pieces of `size` bytes, each prolonged up to the next boundary."""
    end = file.seek(0, os.SEEK_END)
    offset = 0
    while offset < end:
        cut = _boundary(file, offset + size, end)
        yield offset, cut - offset
        offset = cut


def _boundary(file: BinaryIO, position: int, end: int) -> int:
    file.seek(position)
    while position < end:
        block = file.read(4096)
        if found := _BOUNDARY.search(block):
            return position + found.start()
        position += len(block)
    return end


def count_chunk(chunk: str) -> Counter[str]:
    """How often each word stands in a chunk, given as `path:offset:length`."""
    path, offset, length = chunk.rsplit(":", 2)  # From the right: a path may hold colons.
    with Path(path).open("rb") as file:
        file.seek(int(offset))
        text = file.read(int(length)).decode("utf-8", "replace")
    counts: Counter[str] = Counter()
    for word, count in Counter(WORD.findall(text)).items():
        counts[word.lower()] += count
    return counts


def count_files(files: Iterable[str]) -> Counter[str]:
    """How often each word stands in `files`, by `collections.Counter` and without chunks: the counts to compare with.

    Words are lowered one by one and not as a text, because how a capital sigma is lowered depends on what is around.
    """
    counts: Counter[str] = Counter()
    for file in files:
        text = Path(file).read_bytes().decode("utf-8", "replace")
        counts.update(word.lower() for word in WORD.findall(text))
    return counts


def split_by_shard(counts: Counter[str], shards: int) -> dict[int, Counter[str]]:
    """`counts` split by a hash of the word that is the same in every process, unlike Python's own."""
    split: dict[int, Counter[str]] = {}
    for word, count in counts.items():
        split.setdefault(zlib.crc32(word.encode()) % shards, Counter())[word] = count
    return split


def written(counts: Counter[str]) -> Iterator[str]:
    """`counts` as the data of one task, or of several where one could not hold them."""
    data = json.dumps(counts, ensure_ascii=False, separators=(",", ":"))
    if len(data.encode()) <= LARGEST_DATA:
        yield data
        return
    items = list(counts.items())
    half = len(items) // 2
    yield from written(Counter(dict(items[:half])))
    yield from written(Counter(dict(items[half:])))


def summed(written_counts: Iterable[str]) -> Counter[str]:
    """The sum of counts that were `written`."""
    counts: Counter[str] = Counter()
    for data in written_counts:
        counts.update(json.loads(data))
    return counts


def differences(counted: Counter[str], expected: Counter[str]) -> list[str]:
    """A line for each word whose counts differ."""
    return [
        f"{word}: {counted[word]:,} counted, {expected[word]:,} expected"
        for word in sorted(counted.keys() | expected.keys())
        if counted[word] != expected[word]
    ]
