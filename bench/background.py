"""Something done again and again beside the main work."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeating(
    task: Callable[[], None], seconds: float, name: str, retry_on: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Calls `task` every `seconds` in a thread of its own while the block runs; the last call has ended after it.

    Args:
        task: what to do.
        seconds: pause before each call, the first included.
        name: of the thread.
        retry_on: errors after which the next turn tries again; any other ends the thread.
    """
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(seconds):
            try:
                task()
            except retry_on:
                continue

    thread = threading.Thread(target=loop, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
