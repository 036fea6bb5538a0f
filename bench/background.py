"""A task that repeats in a background thread."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeating(
    task: Callable[[], None], seconds: float, name: str, retry_on: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Calls `task` every `seconds` in a thread of its own while the block runs; leaving waits for a call to end.

    Args:
        task: the function to call.
        seconds: pause before each call, the first included.
        name: the thread's name.
        retry_on: errors after which the task is called again at the next turn; any other error ends the thread.
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
