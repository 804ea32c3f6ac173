"""A bundle's ONNX file as a deployed policy, through onnxruntime: NumPy in, NumPy out, no torch.

Inputs of the file, batch 1, in this order: tokens and mask `(1, MAX_BYTES)` int64, images, states, then noise if there is one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from policies.bundle import Bundle, BundleError
from policies.byte_tokens import byte_tokens
from policies.deployed import Act, Prefix
from policies.interface import Observation, PolicySpec


def input_names(spec: PolicySpec, noise: bool) -> list[str]:
    """Names of the file's inputs in order."""
    arrays = [entry.name for kind in ("image", "state") for entry in spec.of_kind(kind)]
    return ["tokens", "mask", *arrays, *(["noise"] if noise else [])]


def load_onnx(path: Path, bundle: Bundle) -> Act:
    """Open the file on one CPU thread. Raises `BundleError` if it is damaged or its inputs are not those of the spec."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a robot's control loop needs the other cores
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base
        raise BundleError(f"{path} cannot be opened by onnxruntime: {error}") from error
    wanted, found = input_names(bundle.spec, bundle.noise_shape is not None), [node.name for node in session.get_inputs()]
    if found != wanted:
        raise BundleError(f"{path} takes {found}, the spec of the bundle means {wanted}")
    text = bundle.spec.of_kind("text")[0].name

    def act(observation: Observation, noise: np.ndarray | None, prefix: Prefix | None) -> np.ndarray:
        rows = []
        for row in range(len(observation[text])):
            tokens, mask = byte_tokens(str(observation[text][row]))
            feed = {"tokens": tokens, "mask": mask} | ({} if noise is None else {"noise": noise[row : row + 1]})
            feed |= {name: observation[name][row : row + 1] for name in wanted if name in observation}
            rows.append(session.run(None, feed)[0])
        return np.concatenate(rows)

    return act
