"""Found on PYTHONPATH by every interpreter: in a server's engine a black image hangs the device for good."""

import sys
import threading


def _break_launches() -> None:
    from service import loading

    make_executor = loading.make_executor

    def make_faulty(*arguments: object, **named: object) -> object:
        executor = make_executor(*arguments, **named)
        run = executor.run

        def run_or_hang(span: object, features: tuple) -> object:
            if not features[0].any():
                threading.Event().wait()  # for ever
            return run(span, features)

        executor.run = run_or_hang
        return executor

    loading.make_executor = make_faulty


if "service.front.engine_process" in sys.orig_argv or "serve" in sys.orig_argv:
    _break_launches()
