"""Workers: claim tasks, keep their leases, call a handler, and settle what it returns, each task once or not at all.

| file         | has                                                                           |
|--------------|-------------------------------------------------------------------------------|
| `outcomes`   | what a handler returns, and what that means for the store                     |
| `desk`       | what is in hand and what to do next: pure, and where all the decisions are    |
| `shift`      | what to send, and what an answer or an error means: what the colours share    |
| `threads`    | carries it out: blocking, in threads                                          |
| `processes`  | several processes of such threads                                             |
| `coroutines` | carries it out: async                                                         |
| `workers`    | `Worker` and `AsyncWorker`, which an application makes and runs               |

The names that an application needs are in `taskstore`. There are none here, so that whoever imports one of these rooms
does not import them all.
"""
