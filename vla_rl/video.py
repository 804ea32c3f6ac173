"""Seeing what a policy does: recorded episodes as MP4 with captions, and a contact sheet of last frames.

n environments of one group · T frames of an episode · H, W image size [pixel]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import torch

from policies.interface import ChunkPolicy
from sim.vec_env import PICTURE, ChunkStep, Render, SimulationError, VecEnv, seat
from vla_rl.batch import Episode

Colour = tuple[int, int, int]

GREEN, RED, GREY, INK, PAPER = (0, 158, 115), (213, 94, 0), (110, 110, 110), (34, 34, 34), (250, 250, 248)
"""RGB; green and vermilion of the Okabe–Ito palette, which colour-blind readers can tell apart."""

FONT = cv2.FONT_HERSHEY_DUPLEX
MIN_SIDE_PX = 384
MAX_FPS = 30
HOLD_S = 1.0
"""How long a video rests on its last frame."""


@dataclass(frozen=True)
class Recording:
    """One recorded episode."""

    episode: Episode
    instruction: str
    success: bool
    frames: tuple[np.ndarray, ...]
    """T images `(H, W, 3)` uint8: the first observation if the policy sees images, then one per control step or one per chunk."""
    steps: tuple[int, ...]
    """T control-step numbers of the frames."""


def record(policy: ChunkPolicy, env: VecEnv, episodes: Sequence[Episode], render: Render = "all") -> list[Recording]:
    """Play episodes greedily and keep their images.

    Args:
        policy: acts greedily.
        env: its first image entry is recorded, or what it shows to people if it has none.
        episodes: in the order of the result; `instruction` overrides the scene's own.
        render: "all" keeps every control step, "last" one image per chunk (cheaper).

    Raises:
        SimulationError: no environment runs an episode's task.
    """
    recordings: dict[int, Recording] = {}
    left = list(range(len(episodes)))
    while left:
        seats = seat(env, [episodes[i].task for i in left])
        seated = {i: env_id for i, env_id in zip(left, seats, strict=True) if env_id is not None}
        if not seated:
            raise SimulationError(f"no environment runs {', '.join(sorted({episodes[i].task for i in left}))}")
        group = _record_group(policy, env, [episodes[i] for i in seated], list(seated.values()), render)
        recordings |= dict(zip(seated, group, strict=True))
        left = [i for i in left if i not in seated]
    return [recordings[i] for i in range(len(episodes))]


def _record_group(policy: ChunkPolicy, env: VecEnv, episodes: Sequence[Episode], env_ids: Sequence[int], render: Render) -> list[Recording]:
    seen, text = policy.spec.of_kind("image"), policy.spec.of_kind("text")[0].name
    image, render = (seen[0].name, render) if seen else (PICTURE, "all")
    own = env.reset(env_ids, [e.seed for e in episodes], [e.task for e in episodes])
    instructions = [e.instruction or str(own[text][i]) for i, e in enumerate(episodes)]
    frames = [[own[image][i]] if seen else [] for i in range(len(episodes))]
    steps = [[0] if seen else [] for _ in episodes]
    success = [False] * len(episodes)
    active, obs = list(range(len(episodes))), own
    while active:
        obs = obs | {text: np.array([instructions[i] for i in active])}
        with torch.no_grad():
            chunk, _ = policy.sample(policy.encode(obs), mode="greedy")
        result = env.step_chunk(chunk[:, : policy.spec.executed].cpu().numpy(), [env_ids[i] for i in active], render)
        for row, i in enumerate(active):
            images, numbers = _new_frames(result, row, image)
            frames[i] += images
            before = steps[i][-1] if steps[i] else 0
            steps[i] += [before + number for number in numbers]
            success[i] |= bool(result.success[row].any())
        going = np.flatnonzero(~result.done)
        active = [active[row] for row in going]
        obs = {name: value[going] for name, value in result.obs.items()}
    return [Recording(e, instructions[i], success[i], tuple(frames[i]), tuple(steps[i])) for i, e in enumerate(episodes)]


def _new_frames(result: ChunkStep, row: int, image: str) -> tuple[list[np.ndarray], list[int]]:
    """Images of one environment's executed steps, and their step numbers within the chunk."""
    executed = int(result.executed[row])
    if not result.frames:
        return [result.obs[image][row]], [executed]
    return [frame[image][row] for frame in result.frames[:executed]], list(range(1, executed + 1))


def draw_frame(recording: Recording, index: int) -> np.ndarray:
    """Image `index` of the recording scaled up, with task, instruction, step and outcome: `(H', W', 3)` uint8, even sizes."""
    view = _enlarge(recording.frames[index])
    finished = index == len(recording.frames) - 1
    if finished:
        cv2.rectangle(view, (0, 0), (view.shape[1] - 1, view.shape[0] - 1), GREEN if recording.success else RED, 6)
    canvas = np.full((view.shape[0] + 68, view.shape[1], 3), PAPER, np.uint8)
    canvas[: view.shape[0]] = view
    base, right = view.shape[0], view.shape[1] - 12
    _write(canvas, recording.episode.task, (12, base + 28), INK, 0.58, right - 130)
    _write(canvas, f'"{recording.instruction}"', (12, base + 54), GREY, 0.46, right - 12)
    status = ("success" if recording.success else "no success") if finished else f"step {recording.steps[index]}"
    colour = (GREEN if recording.success else RED) if finished else GREY
    width = cv2.getTextSize(status, FONT, 0.5, 1)[0][0]
    _write(canvas, status, (right - width, base + 28), colour, 0.5, width + 4)
    return canvas


def write_video(recording: Recording, path: Path, control_hz: float) -> None:
    """Encode the recording as H.264 MP4 that browsers play, at the control rate but at most 30 frames/s."""
    fps = Fraction(min(control_hz, MAX_FPS)).limit_denominator(1000)
    last = len(recording.frames) - 1
    indices = [*range(last + 1), *([last] * round(HOLD_S * fps))]
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        first = draw_frame(recording, 0)
        stream = container.add_stream("libx264", rate=fps, options={"crf": "26", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = first.shape[1], first.shape[0], "yuv420p"
        for index in indices:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw_frame(recording, index), format="rgb24")))
        container.mux(stream.encode(None))


def contact_sheet(recordings: Sequence[Recording], path: Path, side_px: int = 160) -> None:
    """Write a PNG of last frames, one row per task: green border for success, red otherwise."""
    rows: dict[str, list[Recording]] = {}
    for recording in recordings:
        rows.setdefault(recording.episode.task, []).append(recording)
    gap, label = 8, 30
    columns = max(map(len, rows.values()))
    canvas = np.full((len(rows) * (side_px + gap + label) + gap, columns * (side_px + gap) + gap, 3), PAPER, np.uint8)
    for r, (task, group) in enumerate(rows.items()):
        top = gap + r * (side_px + gap + label)
        _write(canvas, f"{task}   {sum(x.success for x in group)}/{len(group)}", (gap, top + 19), INK, 0.5, canvas.shape[1] - 2 * gap)
        for c, recording in enumerate(group):
            tile = cv2.resize(recording.frames[-1], (side_px, side_px), interpolation=cv2.INTER_CUBIC)
            cv2.rectangle(tile, (0, 0), (side_px - 1, side_px - 1), GREEN if recording.success else RED, 4)
            left = gap + c * (side_px + gap)
            canvas[top + label - gap // 2 :][:side_px, left : left + side_px] = tile
    cv2.imwrite(str(path), cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR))


def save_media(policy: ChunkPolicy, env: VecEnv, episodes: Sequence[Episode], videos: int, out: Path) -> None:
    """Play episodes and write `contact_sheet.png`, and for the first `videos` of each task `videos/<task>-<seed>.mp4`."""
    seen: dict[str, int] = {}
    filmed, still = [], []
    for episode in episodes:
        seen[episode.task] = seen.get(episode.task, 0) + 1
        (filmed if seen[episode.task] <= videos else still).append(episode)
    films = record(policy, env, filmed, "all")
    (out / "videos").mkdir(parents=True, exist_ok=True)
    for film in films:
        write_video(film, out / "videos" / f"{film.episode.task}-{film.episode.seed}.mp4", env.spec.control_hz)
    recordings = {recording.episode: recording for recording in [*films, *record(policy, env, still, "last")]}
    contact_sheet([recordings[episode] for episode in episodes], out / "contact_sheet.png")


def _enlarge(image: np.ndarray) -> np.ndarray:
    """Scale by a whole factor to at least `MIN_SIDE_PX`, to even sizes as H.264 wants."""
    factor = max(1, math.ceil(MIN_SIDE_PX / min(image.shape[:2])))
    height, width = (side * factor + side * factor % 2 for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)


def _write(canvas: np.ndarray, text: str, origin: tuple[int, int], colour: Colour, scale: float, width: int) -> None:
    """Draw text in place, shrunk to fit `width` [pixel]. OpenCV's fonts are ASCII."""
    text = text.encode("ascii", "replace").decode()
    scale = min(scale, scale * width / max(1, cv2.getTextSize(text, FONT, scale, 1)[0][0]))
    cv2.putText(canvas, text, origin, FONT, scale, colour, 1, cv2.LINE_AA)
