"""The environments that the other scripts work in: made, mended and kept up to date, with the standard library only.

The laws of this room: whatever state an environment is in, `ready` leaves it whole or says what to do; a second run
does next to nothing; two runs at once wait for each other.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - an older one learns of it here; so nothing above may be too new for it
    sys.exit(
        "taskstore needs Python 3.11 or newer, and this is %d.%d.\n" % sys.version_info[:2]  # noqa: UP031
        + "Name a newer one, as in: python3.12 " + sys.argv[0]
    )  # fmt: skip

import fcntl
import hashlib
import importlib.metadata
import os
import subprocess
import sysconfig
import time
import tomllib
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

ROOT: Final = Path(__file__).resolve().parent.parent
VERSION: Final = f"{sys.version_info[0]}.{sys.version_info[1]}"
WHEELS: Final = (Path(sysconfig.get_path("stdlib"), "ensurepip", "_bundled"), Path("/usr/share/python-wheels"))
"""Where the pip that belongs to Python lies: with Python itself, or where Debian and Fedora put it."""
UNFINISHED: Final = "unfinished"
"""In place of the digest in a stamp, while something is being installed or where that was interrupted."""


class Need(NamedTuple):
    """What a script needs to have installed, and where."""

    directory: str
    constraints: str
    requirements: tuple[str, ...] = ()
    group: str = ""
    """The dependency group of pyproject.toml that is installed too."""
    part_of: str = ""
    """The need, in the same directory, that includes this one."""

    @property
    def path(self) -> Path:
        return ROOT / self.directory

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"

    @property
    def stamp(self) -> Path:
        """Holds two lines: where and for which Python the environment was made, and a digest of what it has."""
        return self.path / ".stamp"


NEEDS: Final = {
    "demo": Need(".venv", "constraints.txt", ("--editable", ".[server]"), part_of="test"),
    "test": Need(".venv", "constraints.txt", ("--editable", ".[server,postgres]"), group="dev"),
    "regenerate": Need(".venv-regenerate", "constraints-regenerate.txt", group="regenerate"),
}


def ready(script: str) -> dict[str, str]:
    """See to it that what a script needs is installed.

    Returns:
        The variables for a process that is to work there, as if that environment had been activated.
    """
    need = NEEDS[script]
    if not _is_ready(need):
        with _alone(need):
            if not _is_ready(need):  # another run may have seen to it while this one waited
                _set_up(need)
    return variables(need)


def variables(need: Need) -> dict[str, str]:
    """The variables of this process, changed as if the environment had been activated, and no other."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
    path = f"{need.python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return kept | {"VIRTUAL_ENV": str(need.path), "PATH": path}


def run(main: Callable[[], int]) -> NoReturn:
    """Run a script's `main` and exit with what it returns; without a word where it is interrupted."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)  # what a shell reports of a program that Ctrl-C has ended


def _is_ready(need: Need) -> bool:
    including = (NEEDS[need.part_of],) if need.part_of else ()
    return _stamped(need) in [(_place(each), _digest(each)) for each in (need, *including)] and _works(need)


def _stamped(need: Need) -> tuple[str, ...]:
    return tuple(need.stamp.read_text().splitlines()) if need.stamp.is_file() else ()


def _place(need: Need) -> str:
    return f"Python {VERSION} in {need.path}"


def _digest(need: Need) -> str:
    files = (ROOT / "pyproject.toml", ROOT / need.constraints)
    return hashlib.sha256(b"\0".join([repr(need).encode(), *(file.read_bytes() for file in files)])).hexdigest()


def _works(need: Need) -> bool:
    """Whether the environment's Python runs, and is of the version that runs this."""
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run([need.python, "-I", "-S", "-c", ask], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return answer.stdout.strip() == VERSION


def _can_be_mended(need: Need) -> bool:
    """Whether pip can make it whole: somebody made it by hand, or it was once finished, and here."""
    stamped = _stamped(need)
    return not need.stamp.exists() or (stamped[:1] == (_place(need),) and stamped[1:] != (UNFINISHED,))


def _set_up(need: Need) -> None:
    if not (_works(need) and _can_be_mended(need)):
        with _told(f"making {need.directory} with Python {VERSION}"):
            venv.create(need.path, clear=True, symlinks=True)
    need.stamp.write_text(f"{_place(need)}\n{UNFINISHED}\n")
    with _told(f"installing into {need.directory}"):
        _install(need)
    need.stamp.write_text(f"{_place(need)}\n{_digest(need)}\n")


def _install(need: Need) -> None:
    """Install what `need` names, in the versions of its constraints file.

    Raises:
        SystemExit: it did not work; the message is pip's output.
    """
    group = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"].get(need.group, [])
    # As variables the constraints hold for what builds the package, too. The path is relative to the working directory
    # because a blank in it would make two of it.
    pins = {"PIP_CONSTRAINT": need.constraints, "PIP_BUILD_CONSTRAINT": need.constraints, "PIP_USER": "0"}
    done = subprocess.run(
        [*_pip(need), "install", "--no-input", *need.requirements, *group],
        cwd=ROOT,
        env=variables(need) | pins,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{done.stdout}\npip failed; what it said is above.")


def _pip(need: Need) -> list[str | Path]:
    """The command that runs a pip for the environment: this Python's own, or one that this machine has as a wheel.

    Not one in the environment: that would take longer to make than all the rest, and Debian's Python cannot make it.
    """
    try:
        if _release(importlib.metadata.version("pip")) >= (22, 3):  # the first that knows --python
            return [sys.executable, "-m", "pip", "--python", need.python]
    except importlib.metadata.PackageNotFoundError:
        pass
    for wheel in (wheel for place in WHEELS for wheel in place.glob("pip-*.whl")):
        return [need.python, wheel / "pip"]
    raise SystemExit(
        f"There is no pip for {sys.executable}, not even the one that Python brings along.\n"
        "On Debian and Ubuntu: apt install python3-venv. Elsewhere: install pip the way your system does it."
    )


def _release(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


@contextmanager
def _alone(need: Need) -> Iterator[None]:
    """Wait until no other run is setting up the same environment, and keep others waiting."""
    with Path(f"{need.path}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with _told(f"waiting for another run that sets up {need.directory}"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Say what is being done, and how long it took."""
    print(f"{what} ...", end="", file=sys.stderr, flush=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        print(" failed", file=sys.stderr)
        raise
    print(f" {time.monotonic() - start:.1f} s", file=sys.stderr)
