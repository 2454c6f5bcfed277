"""What the store is put through: crashes, power cuts, failing disks; and the judge of what clients saw meanwhile.

`history` judges, `order` helps it; `load` says what clients do next; `simulation`, `crash`, `faults` and `powercut` do
it to a store in one thread, to a real server that is killed, to a disk that fails and to one that loses its power;
`several` to several servers over one PostgreSQL, or to that; `network` puts a bad network in between, and kills workers
too. scripts/crash, scripts/powercut, scripts/failover and scripts/network run the long forms, the tests the short ones.
"""

import os
import tempfile
from pathlib import Path


def scratch() -> "tempfile.TemporaryDirectory[str]":
    """A temporary directory, in memory where there is a place for that: nothing done there waits for a disk."""
    memory = Path("/dev/shm")  # noqa: S108 - the directory in it is made by tempfile
    return tempfile.TemporaryDirectory(prefix="taskstore-", dir=memory if os.access(memory, os.W_OK) else None)
