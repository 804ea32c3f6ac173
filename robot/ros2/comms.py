"""The one thread that runs callbacks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rclpy
from rclpy.context import Context
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.node import Node

from robot.ros2.graph import join
from robot.ros2.realtime import run_first

POLL_S = 0.1
"""How often the thread looks whether to stop."""


def make_executor(context: Context) -> Executor:
    """The events executor, which takes a quarter of the processor time of the classic one; that one where it is missing."""
    try:
        from rclpy.experimental.events_executor import EventsExecutor
    except ImportError:
        return SingleThreadedExecutor(context=context)
    return EventsExecutor(context=context)


class CommsThread:
    """Spins one node. Loops `spin_once`: the events executor's `spin` delivers nothing outside of the main thread.

    Callbacks are written not to raise. Where one does, it is handed to `failed`, and the others still run: e-stop among them.
    """

    def __init__(self, node: Node, executor: Executor, failed: Callable[[Exception], None], priority: int | None = None) -> None:
        """`priority`: of SCHED_FIFO (`robot.ros2.realtime`), where that is allowed; that of whoever calls `start` if `None`."""
        self._executor, self._failed, self._priority = executor, failed, priority
        self._executor.add_node(node)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="comms", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self) -> None:
        """Stop delivering and wait for it; only then may publishers and subscriptions be destroyed."""
        self._stop.set()
        self._executor.wake()
        self._thread.join()
        self._executor.shutdown()

    def _run(self) -> None:
        if self._priority is not None:
            run_first(self._priority)
        while not self._stop.is_set():
            try:
                self._executor.spin_once(timeout_sec=POLL_S)
            except Exception as error:
                self._failed(error)
                self._stop.wait(POLL_S)  # what fails every time must not keep a core busy


@contextmanager
def spinning[Built](
    name: str, build: Callable[[Node], Built], failed: Callable[[Exception], None], namespace: str = "", priority: int | None = None
) -> Iterator[Built]:
    """What `build` makes of a node of this process, which a thread spins; what callbacks raise is handed to `failed`."""
    join()
    node = rclpy.create_node(name, namespace=namespace or None)
    try:
        built = build(node)
        comms = CommsThread(node, make_executor(node.context), failed, priority)
        comms.start()
        try:
            yield built
        finally:
            comms.stop()
    finally:
        node.destroy_node()
        rclpy.shutdown()
