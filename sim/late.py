"""Late commands and late observations of one episode: its slot before, its slot after. No physics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sim.delays import Sent, in_force, shown_step
from sim.randomize import Randomizer, Variation
from sim.scene import CONTROL_HZ, CONTROL_STEPS, PHYSICS_DT_S
from sim.settings import Seen, ServoTarget, Shown, Slot


def send(slot: Slot, randomizer: Randomizer, joints: np.ndarray, opening: float) -> tuple[list[tuple[int, ServoTarget]], Slot]:
    """Send a command in the control step ahead.

    Returns:
        What the servos follow in that step, (physics steps, target) one after another, and the slot with what is left on its way.
    """
    now, moment = slot.steps * CONTROL_STEPS, randomizer.moment(variation_of(slot), slot.steps)
    arrival = now + round(moment.action_delay_s / PHYSICS_DT_S)
    parts, line = in_force((*slot.line, Sent(arrival, (joints.copy(), opening))), now, CONTROL_STEPS)
    return parts, replace(slot, line=line)


def look(slot: Slot, randomizer: Randomizer, now: Seen) -> Slot:
    """Remember what there is to see after a control step, decide what is shown, and forget what never will be."""
    moment = randomizer.moment(variation_of(slot), slot.steps - 1)
    shown = Shown(
        image=shown_step(slot.steps, slot.shown.image, moment.image_delay_s, moment.image_lost, CONTROL_HZ),
        state=shown_step(slot.steps, slot.shown.state, moment.state_delay_s, moment.state_lost, CONTROL_HZ),
    )
    seen = tuple(seen for seen in (*slot.seen, now) if seen.step >= min(shown.image, shown.state))
    return replace(slot, seen=seen, shown=shown)


def shown(slot: Slot, step: int, now: Seen) -> Seen:
    """What there was to see after control step `step`; `now`, where nothing comes late."""
    return next((seen for seen in slot.seen if seen.step == step), now)


def variation_of(slot: Slot) -> Variation:
    """The variation of an episode that has one."""
    assert slot.variation is not None
    return slot.variation
