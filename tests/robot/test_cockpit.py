"""What the operator's page knows and draws, without ROS; the page is really served."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("viser", reason="needs the view extra: pip install 'vla-rl[view]'")

from robot.cockpit import watch
from robot.cockpit.page import Buttons, Page, events_html, joints_html, latency_html, state_html
from robot.cockpit.watch import Moment, Watch
from robot.profile import load_profile

ROBOTS = Path(__file__).parents[2] / "configs" / "robots"
STATUS = {
    "state": "active",
    "cause": "",
    "commander": "policy",
    "conflicts": "",
    "missed_deadlines": 3,
    "state_hz": 99.5,
    "count.velocity": 7,
    "count.jerk": 0,
}


def test_a_moment_holds_what_is_heard_and_forgets_what_falls_silent(monkeypatch: pytest.MonkeyPatch):
    now = 100.0
    monkeypatch.setattr(watch.time, "monotonic", lambda: now)
    seen = Watch()
    assert seen.moment() == Moment()
    seen.felt(0, np.ones(3))
    seen.saw("front", 0, np.zeros((2, 2, 3), np.uint8))
    seen.reported(STATUS)
    seen.decided({"inference_s": 0.02, "age_s": 0.05, "instruction": "lift"})
    seen.decided({"inference_s": 0.04, "age_s": 0.07, "instruction": "push"})
    seen.followed({"age_s": 0.09})
    for tick in range(4):
        seen.commanded(tick * 5_000_000, tick * np.ones(3))
    moment = seen.moment()
    assert moment.commanded is not None and moment.commanded.tolist() == [3, 3, 3]
    assert moment.instruction == "push" and set(moment.images) == {"front"}
    assert moment.latency_ms == pytest.approx({"decided": 30, "sent": 60, "followed": 90, "commands apart": 5})
    now += 1.5
    later = seen.moment()
    assert later.measured is None and later.commanded is None and not later.images and not later.latency_ms
    assert later.status == STATUS, "the bridge has more time"
    now += 2.0
    assert seen.moment().status == {}


def test_the_newest_events_are_kept():
    seen = Watch()
    for number in range(7):
        seen.happened(f"event {number} <b>")
    assert seen.moment().events == tuple(f"event {n} <b>" for n in (6, 5, 4, 3, 2))
    assert events_html(seen.moment()).startswith("event 6 &lt;b&gt;<br>event 5")


def test_the_state_is_told_with_what_was_limited():
    text = state_html(STATUS | {"cause": "a <cause>"}, "lift the red block")
    assert ">active</b>" in text and "a &lt;cause&gt;" in text and "lift the red block" in text
    assert "velocity 7" in text and "jerk" not in text and "99.5" in text
    assert "the bridge is silent" in state_html({}, "")


def test_joints_are_drawn_within_their_limits():
    profile = load_profile(ROBOTS / "arm7.yaml")
    low, high = np.array([joint.position for joint in profile.joints]).T
    quarter, near = low + 0.25 * (high - low), low + 0.01 * (high - low)
    rows = joints_html(profile, Moment(measured=quarter, commanded=low + 0.5 * (high - low))).split("<tr>")[1:]
    assert len(rows) == len(profile.joints)
    assert "width:25.0%;background:#607d8b" in rows[0] and "left:50.0%;width:2px" in rows[0] and f"{quarter[0]:.3f} rad" in rows[0]
    assert "background:#c62828" in joints_html(profile, Moment(measured=near))
    assert joints_html(profile, Moment()).count("silent") == len(profile.joints)


def test_latency_is_in_milliseconds():
    profile = load_profile(ROBOTS / "arm7.yaml")
    text = latency_html(Moment(latency_ms={"decided": 12.345, "commands apart": 10.0}), profile)
    assert "12.3 ms" in text and "wanted 10" in text and "observation to plan" not in text
    assert latency_html(Moment(), profile) == "nothing is commanded"


@pytest.mark.parametrize("name", ["arm7", "g1_arms", "so101"])
def test_the_page_is_served_and_draws_every_robot(name: str):
    profile = load_profile(ROBOTS / f"{name}.yaml")
    page = Page(profile, "127.0.0.1", 0, Buttons(*[lambda: None] * 3))
    try:
        images = {camera: np.zeros((32, 32, 3), np.uint8) for camera in profile.topics.images}
        page.draw(Moment(status=STATUS, measured=profile.home, commanded=profile.home, images=images))
        page.draw(Moment(status={"state": "new"}), "a <sentence>")
        answer = urllib.request.urlopen(f"http://127.0.0.1:{page.server.get_port()}/", timeout=10)
        assert answer.status == 200 and b"<html" in answer.read()
    finally:
        page.close()
