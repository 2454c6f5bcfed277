"""The demo: words counted by MapReduce, coordinated by nothing but a task store, with a worker killed in the middle.

All groups have a common random prefix. What stands in them:

| group      | a task in it says                                                            | it goes when          |
|------------|------------------------------------------------------------------------------|-----------------------|
| `map`      | count the words of this chunk, `path:offset:length`                          | its counts are added  |
| `reduce`   | whoever holds me may sum up this shard: its number                           | its shard is summed up |
| `shard/N`  | these words of this chunk, those whose hash is N, stand so often: JSON       | they are summed up    |
| `result/N` | these words of shard N stand so often: JSON                                  | the run is over       |
| `log`      | who did what, and since when; its own available time says when it was done   | it has been read      |
| `run`      | the run is on; every claim depends on me                                     | the run is over       |
| `kill`     | whoever holds this chunk shall be killed while holding it                    | that has happened     |

Why the counts are exact, whoever dies when:

- A map task and its counts change places in one update. So each chunk is counted once, even if several workers have
  worked on it: the update of all but one is refused, because the id they delete is gone.
- The map tasks all stand before the run begins, and none is added later. So once the group is seen empty, claimed
  tasks included, all counts stand in the shards.
- A shard's counts and their sum change places in one update that also ends the shard's token, or replaces it by a new
  one while counts are left. A claim gives the token a new id, so a reducer that has lost it can sum up nothing more.

The one clock is the store's. A claim's instant is the end of its lease less its length; the instant of everything
else is the available time of its entry in the log.
"""

from taskstore.demo.coordinator import Settings, run

__all__ = ["Settings", "run"]
