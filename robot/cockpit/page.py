"""The operator's page: camera pictures, the robot and where it is told to be, joints within their limits, state, latency, a stop button.

A picture of capsules is no camera, and a button in a browser is no e-stop device: with a real robot keep the vendor's in your hand.
Whoever reaches the address can press the buttons, a script on another page of the same browser too.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import trimesh
import viser
from viser.transforms import SO3

from robot.cockpit.watch import Moment
from robot.geometry import Capsule
from robot.kinematics import Chain
from robot.profile import RobotProfile

COLOURS = {"active": "#2e7d32", "standby": "#1565c0", "inactive": "#616161", "soft_stop": "#ef6c00", "fault": "#c62828", "estop": "#c62828"}
"""Of the bridge's states; others are grey."""
MEASURED, COMMANDED = (96, 125, 139), (255, 160, 0)
FACTS = {
    "cause": "cause",
    "commander": "commander",
    "conflicts": "conflicts",
    "missed_deadlines": "missed deadlines",
    "state_hz": "joint states per s",
}
"""Of the bridge's status, and how they are called here."""
COUNTED = "count."


@dataclass(frozen=True)
class Buttons:
    """What the page's buttons do."""

    stop: Callable[[], None]
    release: Callable[[], None]
    disarm: Callable[[], None]


def state_html(status: Mapping[str, Any], instruction: str) -> str:
    """The bridge's state and cause, who commands, what was limited."""
    if not status:
        return "<b style='background:#000;color:#fff;padding:4px 10px'>the bridge is silent</b>"
    state = str(status.get("state", "of unknown state"))
    badge = f"<b style='background:{COLOURS.get(state, '#616161')};color:#fff;padding:4px 10px'>{escape(state)}</b>"
    counts = ", ".join(f"{name.removeprefix(COUNTED)} {n}" for name, n in status.items() if name.startswith(COUNTED) and n)
    facts = {"told": instruction, **{text: status.get(name, "") for name, text in FACTS.items()}, "limited": counts}
    return badge + _table([(name, str(value)) for name, value in facts.items() if value not in ("", 0)])


def joints_html(profile: RobotProfile, moment: Moment) -> str:
    """A bar per joint from its lower to its upper limit: measured (filled up to), commanded (line); red within a twentieth of an end."""
    rows = []
    for i, joint in enumerate(profile.joints):
        low, high = joint.position

        def share(values: np.ndarray | None, i: int = i, low: float = low, high: float = high) -> float | None:
            return None if values is None else float(np.clip((values[i] - low) / (high - low), 0, 1))

        measured, commanded = share(moment.measured), share(moment.commanded)
        text = "silent" if moment.measured is None else f"{moment.measured[i]:.3f} {joint.unit}"
        near = measured is not None and not 0.05 <= measured <= 0.95
        fill = (
            ""
            if measured is None
            else f"<i style='{_at(0)};width:{100 * measured:.1f}%;background:{'#c62828' if near else '#607d8b'}'></i>"
        )
        line = "" if commanded is None else f"<i style='{_at(commanded)};width:2px;background:#ffa000'></i>"
        bar = f"<div style='position:relative;height:9px;background:#ddd;width:120px'>{fill}{line}</div>"
        rows.append((joint.name, bar, escape(text)))
    body = "".join(f"<tr><td>{escape(name)}</td><td>{bar}</td><td>{text}</td></tr>" for name, bar, text in rows)
    return f"<table style='font-size:11px'>{body}</table>"


def latency_html(moment: Moment, profile: RobotProfile) -> str:
    """Medians of the newest chunks and commands [ms]."""
    stages = {
        "decided": "the policy takes",
        "sent": "observation to chunk",
        "followed": "observation to plan",
        "commands apart": f"between commands (wanted {1e3 / profile.rates.command_hz:g})",
    }
    rows = [(text, f"{moment.latency_ms[name]:.1f} ms") for name, text in stages.items() if name in moment.latency_ms]
    return _table(rows) if rows else "nothing is commanded"


def events_html(moment: Moment) -> str:
    """The newest safety events."""
    return "<br>".join(map(escape, moment.events)) or "none"


def require_free(host: str, port: int) -> None:
    """Raise `OSError` if an address is taken or is none of this host: viser would take another port, or wait for ever."""
    socket.create_server((host, port)).close()


class Page:
    """Serves the page on one address and draws moments."""

    def __init__(self, profile: RobotProfile, host: str, port: int, buttons: Buttons) -> None:
        """The address must be free (`require_free`)."""
        self._profile = profile
        self.server = viser.ViserServer(host=host, port=port, label=profile.name, verbose=False)
        self.server.gui.configure_theme(show_share_button=False)
        self.server.request_share_url = _not_shared  # any client may ask for it, button or not
        self._bodies = [_Body(self.server, profile, name, colour, opacity) for name, colour, opacity in _BODIES]
        gui = self.server.gui
        stop = gui.add_button("STOP", color="red", icon=viser.Icon.HAND_STOP)
        release = gui.add_button("release the stop", color="gray")
        disarm = gui.add_button("disarm", color="gray")
        self._said = gui.add_html("")
        self._state = gui.add_html("")
        with gui.add_folder("cameras"):
            black = np.zeros((64, 64, 3), np.uint8)
            self._images = {camera: gui.add_image(black, label=camera, format="jpeg") for camera in profile.topics.images}
        with gui.add_folder("latency"):
            self._latency = gui.add_html("")
        with gui.add_folder("joints"):
            self._joints = gui.add_html("")
        with gui.add_folder("safety events"):
            self._events = gui.add_html("")
        for button, act in ((stop, buttons.stop), (release, buttons.release), (disarm, buttons.disarm)):
            button.on_click(lambda _, act=act: act())

    def draw(self, moment: Moment, said: str = "") -> None:
        """Show a moment, and what came of the last button."""
        with self.server.atomic():
            self._said.content = f"<b>{escape(said)}</b>"
            self._state.content = state_html(moment.status, moment.instruction)
            self._joints.content = joints_html(self._profile, moment)
            self._latency.content = latency_html(moment, self._profile)
            self._events.content = events_html(moment)
            for camera, handle in self._images.items():
                handle.visible = camera in moment.images
                if handle.visible:
                    handle.image = moment.images[camera]
            for body, position in zip(self._bodies, (moment.measured, moment.commanded), strict=True):
                body.show(position)

    def close(self) -> None:
        """Stop serving."""
        self.server.stop()


_BODIES = (("measured", MEASURED, 1.0), ("commanded", COMMANDED, 0.35))


class _Body:
    """The robot's capsules at one set of joint positions; nothing where the profile has no shapes."""

    def __init__(self, server: viser.ViserServer, profile: RobotProfile, name: str, colour: tuple[int, int, int], opacity: float) -> None:
        capsules = profile.collision.capsules if profile.collision else ()
        self._chain = Chain(profile.chain, profile.names) if profile.chain else None
        self._parts = [(capsule.link, server.scene.add_frame(f"/{name}/{capsule.name}", show_axes=False)) for capsule in capsules]
        for capsule in capsules:
            vertices, faces = _mesh(capsule)
            server.scene.add_mesh_simple(f"/{name}/{capsule.name}/shape", vertices, faces, color=colour, opacity=opacity)

    def show(self, position: np.ndarray | None) -> None:
        for _, frame in self._parts:
            frame.visible = position is not None
        if position is None or self._chain is None:
            return
        poses = self._chain.poses(position[None])[0]
        for link, frame in self._parts:
            pose = poses[self._chain.index(link)]
            frame.position = pose[:3, 3]
            frame.wxyz = SO3.from_matrix(pose[:3, :3]).wxyz


def _mesh(capsule: Capsule) -> tuple[np.ndarray, np.ndarray]:
    """Vertices `(V, 3)` and faces `(F, 3)` of a capsule in its link's frame."""
    start, end = np.array(capsule.start_m), np.array(capsule.end_m)
    length = float(np.linalg.norm(end - start))
    shape = trimesh.creation.capsule(height=length, radius=capsule.radius_m, count=[12, 12])
    turn = np.asarray(trimesh.geometry.align_vectors([0, 0, 1], (end - start) / length))[:3, :3] if length > 0 else np.eye(3)
    return np.asarray(shape.vertices) @ turn.T + (start + end) / 2, np.asarray(shape.faces)


def _not_shared(verbose: bool = True) -> None:
    """In place of viser's tunnel, which would put the stop button on the internet."""


def _at(share: float) -> str:
    return f"position:absolute;top:0;height:9px;left:{100 * share:.1f}%"


def _table(rows: Sequence[tuple[str, str]]) -> str:
    body = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table style='font-size:12px'>{body}</table>"
