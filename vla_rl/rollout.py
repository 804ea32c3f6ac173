"""The rollout engine: policy × VecEnv → `Batch` and episode results. The only place that sees episode ends.

Environments are split into groups. While the simulator works on the chunks of some groups, the policy decides for
another, so inference and physics overlap. Groups take turns in a fixed order, each with its own episode queue (when
that is empty, it takes from the longest) and random generator: the outcome depends on the arguments alone, never on
timing.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from policies.factors import Decision
from policies.interface import ChunkPolicy, Context, Mode, Observation, PolicyError, PolicySpec, SpecError
from sim.vec_env import ChunkStep, PendingChunk, PendingReset, VecEnv
from vla_rl.batch import Batch, Episode, EpisodeResult

GROUPS = 4
"""Groups of environments that take turns: two per worker at the default two workers keep every worker busy."""

Progress = Callable[[int, int], None]
"""Called with (finished episodes, successes so far)."""

Labeller = Callable[[Observation, VecEnv, Sequence[int]], torch.Tensor]
"""What a teacher would do: observations and the environments they are from → chunks `(n, K, A)` in the spec's units."""


@dataclass
class _Track:
    """An episode under way."""

    index: int
    episode: Episode
    instruction: str
    obs: Observation
    decisions: int = 0
    steps: int = 0
    reward: float = 0.0


@dataclass(frozen=True)
class _Acting:
    """Chunks under way for one group, with what the policy decided."""

    pending: PendingChunk
    env_ids: list[int]
    obs: Observation
    context: Context
    decision: Decision
    chunk: torch.Tensor
    """What is executed: the policy's chunk, or the teacher's where it acts."""
    teacher_chunk: torch.Tensor | None
    teacher_acts: torch.Tensor
    """`(n,)` bool."""


@dataclass(frozen=True)
class _Turn:
    """The finished decisions of one group's turn, n rows."""

    index: np.ndarray
    """`(n,)` position of the row's episode in the list of episodes."""
    step: np.ndarray
    """`(n,)` decision step within the episode."""
    obs: Observation
    decision: Decision
    chunk: torch.Tensor
    teacher_chunk: torch.Tensor | None
    teacher_acts: torch.Tensor
    result: ChunkStep
    mask: torch.Tensor
    log_prob: torch.Tensor
    factor_mask: torch.Tensor


@dataclass(frozen=True)
class _Ended:
    """An episode's result and its true last observation."""

    result: EpisodeResult
    last_obs: Observation


@dataclass
class _Group:
    """Environments that decide together, their queue of episodes and what they have under way."""

    env_ids: list[int]
    hosts: tuple[str, ...]
    """Tasks that the environments can run."""
    together: bool
    """Whether the simulator steps the environments together, so that all should have a chunk in each turn."""
    queue: deque[tuple[int, Episode]]
    generator: torch.Generator
    tracks: dict[int, _Track] = field(default_factory=dict)
    resetting: tuple[PendingReset, list[tuple[int, int, Episode]]] | None = None
    acting: _Acting | None = None

    @property
    def busy(self) -> bool:
        return bool(self.queue or self.tracks or self.resetting)


def run_episodes(
    policy: ChunkPolicy,
    env: VecEnv,
    episodes: Sequence[Episode],
    *,
    mode: Mode,
    temperature: float = 1.0,
    seed: int,
    keep: bool = False,
    labeller: Labeller | None = None,
    mixture: float = 0.0,
    version: int = 0,
    first_rollout: int = 0,
    progress: Progress | None = None,
) -> tuple[Batch | None, list[EpisodeResult]]:
    """Run every episode once and return results in the order of `episodes`, with the decisions when `keep` is set.

    Args:
        policy: acts in all environments.
        env: its entries, action and control rate must equal the policy's spec.
        episodes: tasks and initial-state seeds.
        mode: stochastic in training, greedy in evaluation.
        temperature: of stochastic sampling; stored in the decisions.
        seed: seeds action sampling; initial states come from the episodes' own seeds.
        keep: return a `Batch` of all decisions.
        labeller: also record its chunk at every decision (a teacher's; needs `keep`).
        mixture: how likely the labeller's chunk is executed in place of the policy's, decision by decision.
        version: policy version stored in the batch.
        first_rollout: id of the first episode, so that ids stay unique over a run.
        progress: called after every finished episode.

    Raises:
        SpecError: the environment does not offer what the policy's spec declares.
        PolicyError: the policy produced NaN.
    """
    require_matching_env(policy.spec, env)
    groups = _make_groups(env, episodes, seed)
    turns: list[_Turn] = []
    ended: dict[int, _Ended] = {}
    for group in groups:
        _submit_resets(group, [group], env)
    with _one_torch_thread(), torch.no_grad():
        while any(group.busy for group in groups):
            for group in groups:
                if group.acting:
                    turn = _take_chunk(group, policy, ended, keep)
                    if turn is not None:
                        turns.append(turn)
                if group.resetting:
                    _take_reset(group)
                _submit_resets(group, groups, env)
                if group.resetting and group.together:
                    _take_reset(group)
                _submit_chunks(group, policy, env, mode, temperature, labeller, mixture)
            if progress:
                progress(len(ended), sum(end.result.success for end in ended.values()))
    results = [ended[i].result for i in range(len(episodes))]
    if not keep:
        return None, results
    return _assemble(turns, [ended[i].last_obs for i in range(len(episodes))], results, version, first_rollout), results


def require_matching_env(spec: PolicySpec, env: VecEnv) -> None:
    """Raise `SpecError` unless the environment offers exactly the entries, action and control rate of the spec."""
    offered = spec.model_copy(
        update={
            "embodiment": env.spec.embodiment,
            "entries": env.spec.entries,
            "action": env.spec.action,
            "control_hz": env.spec.control_hz,
        }
    )
    spec.require_same(offered, "policy and environment")


def _make_groups(env: VecEnv, episodes: Sequence[Episode], seed: int) -> list[_Group]:
    """Groups with their share of the episodes. What steps together is one group."""
    count = min(GROUPS, env.num_envs, max(1, len(episodes)))
    parts = env.lockstep or [tuple(range(env.num_envs))[g::count] for g in range(count)]
    groups = [
        _Group(
            list(part), env.hosts(part[0]), bool(env.lockstep), deque(), torch.Generator().manual_seed(seed * max(GROUPS, len(parts)) + g)
        )
        for g, part in enumerate(parts)
    ]
    dealt = Counter[tuple[str, ...]]()
    for index, episode in enumerate(episodes):
        able = [group for group in groups if episode.task in group.hosts]
        if not able:
            raise SpecError(f"no environment can run task '{episode.task}'; the simulator was started for {', '.join(env.tasks)}")
        able[dealt[able[0].hosts] % len(able)].queue.append((index, episode))
        dealt[able[0].hosts] += 1
    return groups


def _take_chunk(group: _Group, policy: ChunkPolicy, ended: dict[int, _Ended], keep: bool) -> _Turn | None:
    """Wait for the group's chunks, advance its episodes and file those that ended. Returns the decisions if they are kept."""
    assert group.acting is not None
    acting, group.acting = group.acting, None
    result = acting.pending.result()
    tracks = [group.tracks[env_id] for env_id in acting.env_ids]
    turn = _kept(acting, result, tracks, policy) if keep else None
    for row, (env_id, track) in enumerate(zip(acting.env_ids, tracks, strict=True)):
        track.decisions += 1
        track.steps += int(result.executed[row])
        track.reward += float(result.reward[row].sum())
        track.obs = _row(result.obs, row, track.episode)
        if result.done[row]:
            del group.tracks[env_id]
            at_end = bool(result.success[row, result.executed[row] - 1])
            success, diverged = bool(result.success[row].any()), bool(result.diverged[row])
            outcome = EpisodeResult(track.episode, track.instruction, success, at_end, track.steps, track.reward, diverged)
            ended[track.index] = _Ended(outcome, track.obs)
    return turn


def _kept(acting: _Acting, result: ChunkStep, tracks: Sequence[_Track], policy: ChunkPolicy) -> _Turn:
    """What the batch keeps of a turn; the context, which can be large, is not."""
    executed = torch.as_tensor(result.executed)
    mask = (torch.arange(acting.chunk.shape[1]) < executed[:, None])[..., None].expand(acting.chunk.shape)
    log_prob, factor_mask = torch.zeros(len(executed), 0), torch.zeros(len(executed), 0, dtype=torch.bool)
    if acting.decision.mode == "stochastic":
        factors = policy.factors(acting.context, acting.decision, mask.to(acting.decision.device))
        log_prob, factor_mask = factors.log_prob().cpu(), factors.mask.cpu()
    return _Turn(
        index=np.array([track.index for track in tracks]),
        step=np.array([track.decisions for track in tracks]),
        obs=acting.obs,
        decision=acting.decision.to(torch.device("cpu")),
        chunk=acting.chunk,
        teacher_chunk=acting.teacher_chunk,
        teacher_acts=acting.teacher_acts,
        result=result,
        mask=mask,
        log_prob=log_prob,
        factor_mask=factor_mask,
    )


def _take_reset(group: _Group) -> None:
    assert group.resetting is not None
    pending, starts = group.resetting
    group.resetting = None
    first = pending.result()
    for row, (env_id, index, episode) in enumerate(starts):
        obs = _row(first, row, episode)
        instruction = next(str(value) for value in obs.values() if value.dtype.kind in "UO")
        group.tracks[env_id] = _Track(index, episode, instruction, obs)


def _submit_resets(group: _Group, groups: Sequence[_Group], env: VecEnv) -> None:
    """Start queued episodes, of `groups` when its own are used up, in free environments; they join the group's next turn."""
    starts = []
    for env_id in group.env_ids:
        queue = group.queue or max((other.queue for other in groups if other.hosts == group.hosts), key=len)
        if env_id not in group.tracks and queue:
            starts.append((env_id, *queue.popleft()))
    if starts:
        env_ids, _, episodes = zip(*starts, strict=True)
        seeds, tasks, states = zip(*((episode.seed, episode.task, episode.start) for episode in episodes), strict=True)
        group.resetting = (env.submit_reset(env_ids, seeds, tasks, states), starts)


def _submit_chunks(
    group: _Group, policy: ChunkPolicy, env: VecEnv, mode: Mode, temperature: float, labeller: Labeller | None, mixture: float
) -> None:
    """Decide for every episode under way and send the chunks to the simulator."""
    env_ids = sorted(group.tracks)
    if not env_ids:
        return
    obs = {name: np.stack([group.tracks[i].obs[name] for i in env_ids]) for name in group.tracks[env_ids[0]].obs}
    context = policy.encode(obs)
    chunk, decision = policy.sample(context, mode, temperature, group.generator)
    if not torch.isfinite(chunk).all():
        raise PolicyError("the policy produced NaN or infinite actions; nothing was executed")
    taught = labeller(obs, env, env_ids).cpu() if labeller else None
    acts = torch.rand(len(env_ids), generator=group.generator) < mixture if mixture else torch.zeros(len(env_ids), dtype=torch.bool)
    executed = chunk.cpu()
    if taught is not None:
        executed = torch.where(acts[:, None, None], taught, executed)
    pending = env.submit_chunk(executed[:, : policy.spec.executed].numpy(), env_ids)
    group.acting = _Acting(pending, env_ids, obs, context, decision, executed, taught, acts)


def _assemble(turns: list[_Turn], last_obs: list[Observation], results: list[EpisodeResult], version: int, first_rollout: int) -> Batch:
    """Join all turns and sort the rows by (episode, decision step)."""
    index, step = np.concatenate([t.index for t in turns]), np.concatenate([t.step for t in turns])
    order = torch.as_tensor(np.lexsort((step, index)))

    def rows(parts: list[torch.Tensor] | list[np.ndarray]) -> torch.Tensor:
        return torch.cat([torch.as_tensor(part) for part in parts])[order]

    chunk = rows([t.chunk for t in turns])
    reward = rows([t.result.reward for t in turns])
    episode = torch.as_tensor(index)[order]
    taught = [t.teacher_chunk for t in turns if t.teacher_chunk is not None]
    states = list(dict.fromkeys((r.episode.task, r.episode.seed, r.episode.start) for r in results))
    group = torch.tensor([states.index((r.episode.task, r.episode.seed, r.episode.start)) for r in results])
    return Batch(
        obs={name: np.concatenate([t.obs[name] for t in turns])[order.numpy()] for name in last_obs[0]},
        decision=Decision.cat([t.decision for t in turns])[order],
        chunk=chunk,
        log_prob=rows([t.log_prob for t in turns]),
        factor_mask=rows([t.factor_mask for t in turns]),
        mask=rows([t.mask for t in turns]),
        rollout=first_rollout + episode,
        step=torch.as_tensor(step)[order],
        reward=torch.nn.functional.pad(reward, (0, chunk.shape[1] - reward.shape[1])),
        terminated=rows([t.result.terminated for t in turns]),
        truncated=rows([t.result.truncated for t in turns]),
        last_obs={name: np.stack([obs[name] for obs in last_obs]) for name in last_obs[0]},
        success=torch.tensor([r.success for r in results])[episode],
        version=version,
        source=tuple("teacher" if acts else "policy" for acts in rows([t.teacher_acts for t in turns]).tolist()),
        group=group[episode],
        teacher_chunk=rows(taught) if taught else None,
    )


def _row(obs: Observation, row: int, episode: Episode) -> Observation:
    """One environment's observation, with the episode's instruction in place of the environment's where it has one."""
    values = {name: value[row] for name, value in obs.items()}
    if episode.instruction is not None:
        values = {name: np.array(episode.instruction) if value.dtype.kind in "UO" else value for name, value in values.items()}
    return values


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Small inference batches gain nothing from more threads, and the simulator's workers need the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
