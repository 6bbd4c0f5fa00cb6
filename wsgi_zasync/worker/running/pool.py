# SPDX-License-Identifier: ZPL-2.1
"""Threads that run plugins, each with something of its own, such as a database connection.

A thread cannot be killed. When what it runs has taken too long, its slot is *abandoned*: the
pool starts another thread in its place, and the old one ends by itself once it gets that far.

Threads: the pool's methods may be called from any; what a slot owns is made, used and closed in
the slot's own thread.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds between tries to get what a thread owns, such as a connection to a storage that is away.
AGAIN_SECONDS = 0.5

#: Seconds after which a thread that has nothing to run looks after what it owns.
IDLE_SECONDS = 60.0


class Slot(Generic[T]):
    """One thread of a pool and what it owns."""

    def __init__(self, number: int, owned: T) -> None:
        #: Which place in the pool this thread has; its replacement has the same one.
        self.number = number
        #: What ``enter`` of the pool made for this thread.
        self.owned = owned
        #: Whether the pool has given this thread up.
        self.abandoned = False
        #: What is run now, as it was named to ``submit``.
        self.runs: object = None


class Pool(Generic[T]):
    """At most ``size`` threads, started when there is something to run."""

    def __init__(
        self,
        name: str,
        size: int,
        enter: Callable[[int], T],
        leave: Callable[[T], None],
        idle: Callable[[T], None] = lambda _: None,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """Describe the pool; no thread is started yet.

        Args:
            name: The beginning of the threads' names.
            size: How many run at a time.
            enter: Makes what a thread owns, in that thread; it is given the slot's number.
            leave: Closes it, in that thread.
            idle: Looks after it, in that thread, while there is nothing to run; must not raise.
            idle_seconds: How often.
        """
        self.size = size
        self._name = name
        self._enter, self._leave = enter, leave
        self._look_after, self._idle_seconds = idle, idle_seconds
        self._changed = threading.Condition()
        self._waiting: deque[tuple[object, Callable[[Slot[T]], None]]] = deque()
        self._threads: dict[int, threading.Thread] = {}
        self._idle = 0
        self._stopping = False
        self._generation = 0
        #: How many threads were given up and have not ended yet.
        self.abandoned = 0

    def submit(self, run: Callable[[Slot[T]], None], name: object = None) -> None:
        """Run this in one of the threads, as soon as one has time. It must not raise.

        Args:
            run: What to run.
            name: What ``abandon`` knows it by.
        """
        with self._changed:
            self._waiting.append((name, run))
            self._start_missing()
            self._changed.notify()

    def start_missing(self) -> None:
        """Start what threads could not be started before, for what waits for them."""
        with self._changed:
            self._start_missing()

    def abandon(self, slot: Slot[T], name: object) -> None:
        """Give a slot's thread up if that is what it runs, and let another take its place."""
        with self._changed:
            if slot.abandoned or slot.runs is not name:
                return
            slot.abandoned = True
            self.abandoned += 1
            self._threads.pop(slot.number, None)
            # It holds memory, a stack and perhaps a connection until then, and nobody can end it.
            logger.warning(
                "a thread of %s was given up, and goes on until what it runs returns: "
                "%d of them by now",
                self._name,
                self.abandoned,
            )
            if self._waiting:
                self._start_thread()

    def stop(self, timeout_seconds: float) -> None:
        """Start nothing more, and wait for the threads that have not been given up.

        Args:
            timeout_seconds: For how long to wait for each.
        """
        with self._changed:
            self._stopping = True
            self._waiting.clear()
            self._changed.notify_all()
            threads = list(self._threads.values())
        for thread in threads:
            thread.join(timeout_seconds)

    def _start_missing(self) -> None:
        if self._idle < len(self._waiting) and len(self._threads) < self.size:
            self._start_thread()

    def _start_thread(self) -> None:
        number = next(n for n in range(self.size) if n not in self._threads)
        self._generation += 1
        thread = threading.Thread(
            target=self._run,
            args=(number,),
            name=f"{self._name}-{number}.{self._generation}",
            # One that was given up may never end, and must not keep the process alive.
            daemon=True,
        )
        self._threads[number] = thread
        try:
            thread.start()
        except RuntimeError as exc:
            # There are too many now. Those that wait for one go on waiting.
            del self._threads[number]
            logger.error("a thread of %s cannot be started: %s", self._name, exc)

    def _run(self, number: int) -> None:
        slot = self._entered(number)
        try:
            while slot is not None and (run := self._next(slot)) is not None:
                run(slot)
        finally:
            if slot is not None:
                self._leave(slot.owned)
            with self._changed:
                if slot is None or not slot.abandoned:
                    self._threads.pop(number, None)
                else:
                    self.abandoned -= 1

    def _entered(self, number: int) -> Slot[T] | None:
        """What a thread has, once it can be had; None if the pool stops before that."""
        while True:
            try:
                return Slot(number, self._enter(number))
            except Exception as exc:  # noqa: BLE001 - a thread that ends strands what waits for it
                logger.warning("a thread of %s waits: %s: %s", self._name, type(exc).__name__, exc)
            with self._changed:
                if self._changed.wait_for(lambda: self._stopping, AGAIN_SECONDS):
                    return None

    def _next(self, slot: Slot[T]) -> Callable[[Slot[T]], None] | None:
        with self._changed:
            slot.runs = None
            self._idle += 1
            try:
                while not (self._waiting or self._stopping or slot.abandoned):
                    if not self._changed.wait(self._idle_seconds):
                        return lambda slot: self._look_after(slot.owned)
            finally:
                self._idle -= 1
            if slot.abandoned or not self._waiting:
                return None
            slot.runs, run = self._waiting.popleft()
            return run
