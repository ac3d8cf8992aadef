"""What every process that runs the service needs, whoever started it."""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

import torch

from service.heap import keep_heap_small, trim_heap
from service.logs import configure_logs

SWITCH_S = 0.0001
"""How long one thread keeps the interpreter while another wants it, seconds. With Python's own 5 ms the
device waits so long for the event loop, several times a launch: 8 to 14 % fewer answers at three times the
capacity than with 1 ms (2-core Xeon at 2.3 GHz, ``h2load`` at 1,700 requests/s, n = 5 pairs of 12,000)."""


def prepare_process(log_level: str) -> None:
    """Set up logs, memory and threads.

    Args:
        log_level: Least severe event that is logged.
    """
    configure_logs(log_level)
    keep_heap_small()
    prepare_threads()


def prepare_threads() -> None:
    """Let the threads of this process share processor and interpreter as a service's do."""
    # The event loop's thread gathers batches; OpenVINO and CUDA bring threads of their own.
    torch.set_num_threads(1)
    sys.setswitchinterval(SWITCH_S)


def end_at_once(reason: str) -> NoReturn:
    """End this process with exit code 1 and one line that says why; a clean end would wait for what hangs."""
    sys.stderr.write(f"exitramp: {reason}\n")
    sys.stderr.flush()
    os._exit(1)


def settle_memory() -> None:
    """Give back what models have left, and let the garbage collector look at what comes from now on alone.

    Packages, networks and their compiler are 200,000 objects and more that stay. To look through them took
    the collector 100 to 180 ms, every other second at 1,700 requests/s (2-core Xeon at 2.3 GHz, n = 10), and
    the whole process waited.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    trim_heap()
