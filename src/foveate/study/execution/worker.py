"""A process that carries runs out for the one that started it, and ends when that one does.

Jobs come in on standard input, one a line; words go out on what was standard output. The end of the input means that
nobody is there any more, whatever became of them, and ends the process at once, in the middle of a run too.
"""

from __future__ import annotations

import json
import os
import signal
from queue import SimpleQueue
from threading import Thread
from typing import Any, BinaryIO

import torch

from foveate.errors import FoveateError
from foveate.study.execution.attempt import attempt
from foveate.study.execution.job import Word, Work, work_named
from foveate.study.execution.where import Versions
from foveate.study.execution.wire import send


def main() -> None:
    """Carry out what comes in, until nobody is there to send it."""
    lines, out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # what a run reads or prints must not come between the words
    os.dup2(2, 1)
    orders: SimpleQueue[dict[str, Any]] = SimpleQueue()
    Thread(target=_listen, args=(lines, orders), daemon=True).start()
    order = orders.get()
    torch.set_num_threads(order["threads"])
    refusal = Versions(**order["versions"]).refusal(Versions.here(), "a process that was just started")
    work, lacking = _work(order["work"])
    while True:
        order = orders.get()
        if work is None or refusal is not None:
            send(out, Word("refused", order["key"], {"sentence": refusal or lacking}))
        else:
            send(out, attempt(work, order["key"], order["payload"], lambda word: send(out, word)))


def _work(name: str) -> tuple[Work | None, str]:
    try:
        return work_named(name), ""
    except FoveateError as error:
        return None, str(error)


def _listen(lines: BinaryIO, orders: SimpleQueue[dict[str, Any]]) -> None:
    for line in lines:
        orders.put(json.loads(line))
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)  # with whatever its run has started
    os._exit(0)


if __name__ == "__main__":
    main()
