"""Instructions of the 50 Meta-World tasks: phrasings for training, and held-out phrasings never trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Paraphrases = Literal["train", "held_out"]


@dataclass(frozen=True)
class Phrasings:
    """Several ways to say one task."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


def draw(task: str, seed: int, paraphrases: Paraphrases) -> str:
    """The phrasing of `task` for an episode's seed."""
    choices = INSTRUCTIONS[task].train if paraphrases == "train" else INSTRUCTIONS[task].held_out
    return choices[np.random.default_rng([seed, 1]).integers(len(choices))]


def _say(train: str, held_out: str) -> Phrasings:
    """Phrasings separated by `|`."""
    return Phrasings(tuple(part.strip() for part in train.split("|")), tuple(part.strip() for part in held_out.split("|")))


INSTRUCTIONS: dict[str, Phrasings] = {
    "assembly": _say(
        "put the ring onto the peg|pick up the nut and place it on the peg|assemble the ring and the peg",
        "thread the nut over the peg|lift the ring and lower it onto the pole",
    ),
    "basketball": _say(
        "dunk the ball into the basket|put the basketball through the hoop|throw the ball into the hoop",
        "score a basket|drop the basketball in the net",
    ),
    "bin-picking": _say(
        "move the block to the other bin|pick the object from one bin and place it in the other|transfer the cube to the second bin",
        "take the cube out of its bin and drop it in the other one|carry the object across to the other bin",
    ),
    "box-close": _say(
        "close the box with the lid|put the cover on the box|place the lid on the box",
        "cover the box|set the lid down onto the box",
    ),
    "button-press-topdown": _say(
        "press the button from above|push the button down from the top|press the button on top of the box",
        "push the top button downwards|come from above and hit the button",
    ),
    "button-press-topdown-wall": _say(
        "press the button behind the wall from above|go over the wall and push the button down|press the top button past the wall",
        "reach over the wall and hit the button from the top|clear the wall, then push the button downwards",
    ),
    "button-press": _say(
        "press the button|push the button in|press the button on the front of the box",
        "poke the button in|give the front button a push",
    ),
    "button-press-wall": _say(
        "press the button behind the wall|go around the wall and push the button in|press the front button past the wall",
        "get past the wall and poke the button|avoid the wall and give the button a push",
    ),
    "coffee-button": _say(
        "press the button on the coffee machine|start the coffee machine|push the coffee machine's button",
        "switch on the coffee maker|make coffee by pressing the button",
    ),
    "coffee-pull": _say(
        "pull the mug away from the coffee machine|take the mug from the coffee machine|drag the cup out of the coffee machine",
        "fetch the mug from under the coffee maker|bring the cup away from the coffee maker",
    ),
    "coffee-push": _say(
        "push the mug under the coffee machine|place the mug in the coffee machine|slide the cup to the coffee machine",
        "put the cup beneath the coffee maker|move the mug into the coffee maker",
    ),
    "dial-turn": _say(
        "turn the dial|rotate the dial|twist the dial around",
        "spin the knob|give the dial a turn",
    ),
    "disassemble": _say(
        "take the ring off the peg|pick the nut off the peg|remove the ring from the peg",
        "lift the nut away from the pole|unmount the ring from the peg",
    ),
    "door-close": _say(
        "close the door|push the door shut|shut the door",
        "swing the door closed|make sure that the door is shut",
    ),
    "door-lock": _say(
        "lock the door|turn the lock to lock the door|rotate the door lock clockwise",
        "bolt the door|secure the door by turning its lock",
    ),
    "door-open": _say(
        "open the door|pull the door open|pull the handle to open the door",
        "swing the door open|get the door to open",
    ),
    "door-unlock": _say(
        "unlock the door|turn the lock to unlock the door|rotate the door lock counter-clockwise",
        "unbolt the door|release the lock of the door",
    ),
    "hand-insert": _say(
        "put the block into the hole|insert the hand with the block into the hole|lower the block into the hole",
        "drop the cube down the hole|reach into the hole with the block",
    ),
    "drawer-close": _say(
        "close the drawer|push the drawer shut|push the drawer in",
        "slide the drawer closed|shut the drawer",
    ),
    "drawer-open": _say(
        "open the drawer|pull the drawer open|pull the drawer out",
        "slide the drawer open|draw the drawer out by its handle",
    ),
    "faucet-open": _say(
        "open the faucet|turn the faucet on|rotate the faucet handle to the right to open it",
        "switch the tap on|open the tap",
    ),
    "faucet-close": _say(
        "close the faucet|turn the faucet off|rotate the faucet handle to the left to close it",
        "switch the tap off|close the tap",
    ),
    "hammer": _say(
        "hammer the nail in|hit the nail with the hammer|pick up the hammer and drive the nail into the wall",
        "use the hammer on the nail|drive in the nail",
    ),
    "handle-press-side": _say(
        "press the handle down from the side|push the side handle down|press the lever on the side down",
        "reach in sideways and push the handle downwards|lower the handle from the side",
    ),
    "handle-press": _say(
        "press the handle down|push the handle down|press down on the handle",
        "lower the handle|push the handle towards the table",
    ),
    "handle-pull-side": _say(
        "pull the handle up from the side|pull the side handle up|lift the handle on the side",
        "reach in sideways and raise the handle|raise the handle from the side",
    ),
    "handle-pull": _say(
        "pull the handle up|lift the handle|pull up on the handle",
        "raise the handle|bring the handle upwards",
    ),
    "lever-pull": _say(
        "pull the lever up|rotate the lever upwards|lift the lever",
        "raise the lever|swing the lever up",
    ),
    "peg-insert-side": _say(
        "insert the peg into the hole from the side|put the peg in the side hole|push the peg sideways into the hole",
        "fit the peg into the block's hole|slide the peg into the hole in the side",
    ),
    "pick-place-wall": _say(
        "pick up the puck and place it at the goal behind the wall|carry the puck over the wall to the goal|lift the puck past the wall",
        "take the puck over the wall and set it on the target|bring the puck to the target beyond the wall through the air",
    ),
    "pick-out-of-hole": _say(
        "pick the puck out of the hole|take the puck from the hole|lift the puck out of the hole",
        "get the puck out of its hole|fetch the puck from inside the hole",
    ),
    "reach": _say(
        "reach the goal|move the hand to the goal|touch the goal with the gripper",
        "bring the gripper to the target|go to the target position",
    ),
    "push-back": _say(
        "push the puck back to the goal|pull the puck back towards the robot|drag the puck backwards to the goal",
        "bring the puck back to the target|slide the puck back towards yourself",
    ),
    "push": _say(
        "push the puck to the goal|slide the puck to the goal on the table|push the puck along the table to the goal",
        "shove the puck over to the target|move the puck across the table onto the target",
    ),
    "pick-place": _say(
        "pick up the puck and place it at the goal|lift the puck to the goal|grasp the puck and carry it to the goal in the air",
        "grab the puck and hold it at the target|raise the puck up to the target",
    ),
    "plate-slide": _say(
        "slide the plate into the cabinet|push the plate forward into the cabinet|move the plate into the cabinet",
        "shove the plate inside the cabinet|get the plate into the goal box",
    ),
    "plate-slide-side": _say(
        "slide the plate sideways into the cabinet|push the plate to the side into the cabinet|move the plate sideways into the cabinet",
        "shove the plate into the cabinet at the side|get the plate into the cabinet on its left",
    ),
    "plate-slide-back": _say(
        "slide the plate back out of the cabinet|pull the plate back from the cabinet|take the plate backwards out of the cabinet",
        "drag the plate out of the cabinet towards yourself|bring the plate back out",
    ),
    "plate-slide-back-side": _say(
        "slide the plate sideways out of the cabinet|pull the plate out of the cabinet to the side|take the plate sideways out",
        "drag the plate from the cabinet at the side|bring the plate out of the cabinet sideways",
    ),
    "peg-unplug-side": _say(
        "unplug the peg|pull the peg out of the hole sideways|pull the plug out of the socket",
        "take the plug out|remove the peg from the hole in the side",
    ),
    "soccer": _say(
        "kick the ball into the goal|push the soccer ball into the goal|score a goal with the ball",
        "shoot the football into the net|roll the ball into the goal",
    ),
    "stick-push": _say(
        "push the thermos with the stick|grasp the stick and push the box with it|use the stick to push the object",
        "take the stick and shove the thermos away|poke the object to the target with the stick",
    ),
    "stick-pull": _say(
        "pull the thermos with the stick|grasp the stick and pull the box with it|use the stick to pull the object",
        "take the stick and draw the thermos closer|hook the object with the stick and bring it here",
    ),
    "push-wall": _say(
        "push the puck around the wall to the goal|slide the puck past the wall to the goal|push the puck along the table behind the wall",
        "shove the puck around the wall onto the target|move the puck across the table past the wall",
    ),
    "reach-wall": _say(
        "reach the goal behind the wall|move the hand around the wall to the goal|touch the goal past the wall",
        "bring the gripper to the target beyond the wall|avoid the wall and go to the target position",
    ),
    "shelf-place": _say(
        "place the puck on the shelf|pick up the puck and put it on the shelf|put the block onto the shelf",
        "set the puck down on the shelf|store the block on the shelf",
    ),
    "sweep-into": _say(
        "sweep the puck into the hole|sweep the block into the hole in the table|push the puck so that it falls into the hole",
        "brush the puck down the hole|wipe the block into the opening",
    ),
    "sweep": _say(
        "sweep the puck off the table|sweep the block off the table|push the puck over the edge of the table",
        "brush the puck off the desk|wipe the block away from the table",
    ),
    "window-open": _say(
        "open the window|slide the window open|push the window to the right to open it",
        "get the window to open|move the window pane to the open side",
    ),
    "window-close": _say(
        "close the window|slide the window shut|push the window to the left to close it",
        "shut the window|move the window pane to the closed side",
    ),
}
