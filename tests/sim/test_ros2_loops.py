"""How time passes for a simulated robot whose host is too slow, on a clock that only work moves."""

from __future__ import annotations

from typing import Any, cast

import pytest

pytest.importorskip("rclpy", reason="needs the ros extra: pip install 'vla-rl[ros]'")

from sim.ros2 import loops

MS = 1_000_000


class Host:
    """Clock, executor and robot in one: 2 ms of physics take 0.1 ms, and messages take what the test says."""

    def __init__(self, message_ms: float, image_ms: float) -> None:
        self.clock_ns = self.now_ns = 0
        self.rested_ns = 0
        self.published: list[tuple[int, bool]] = []
        self._cost_ns = (round(message_ms * MS), round(image_ms * MS))

    def monotonic_ns(self) -> int:
        return self.clock_ns

    def time_ns(self) -> int:
        return self.clock_ns

    def spin_once(self, timeout_sec: float) -> None:
        self.rested_ns += round(timeout_sec * 1e9)
        self.clock_ns += round(timeout_sec * 1e9)

    def measure(self, images: bool) -> bool:
        return images

    def publish(self, images: bool) -> None:
        self.published.append((self.now_ns // MS, images))
        self.clock_ns += self._cost_ns[0] + images * self._cost_ns[1]

    def advance(self, servo_steps: int) -> None:
        assert servo_steps == 2
        self.now_ns += 2 * MS
        self.clock_ns += MS // 10


def play(host: Host, monkeypatch: pytest.MonkeyPatch, until_ms: int) -> None:
    monkeypatch.setattr(loops, "time", host)
    loops.run_real_time(cast(Any, host), cast(Any, host), 2, camera_every=5, running=lambda: host.now_ns < until_ms * MS)


def test_in_time_every_tick_is_published_and_every_fifth_with_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(message_ms=0.5, image_ms=1.0)
    play(host, monkeypatch, 20)
    assert host.published == [(2 * k, k % 5 == 0) for k in range(10)]


def test_what_an_image_delays_is_caught_up_with_and_no_image_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image of tick 0 takes until 5.6; tick 1 (due at 2) begins late, and so would tick 2."""
    host = Host(message_ms=0.5, image_ms=5.0)
    play(host, monkeypatch, 200)
    assert host.published[:4] == [(0, True), (2, False), (6, False), (8, False)]
    assert sum(images for _, images in host.published) == 20 and host.rested_ns > 20 * MS


def test_a_host_that_is_always_late_rests_and_the_robots_time_still_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(message_ms=2.4, image_ms=0.0)
    play(host, monkeypatch, 200)
    assert abs(host.clock_ns - host.now_ns) < 5 * MS
    assert 60 <= len(host.published) < 80 and host.rested_ns > 10 * MS
