"""The bundle folder: everything a robot needs to run a policy, checked before anything moves. No torch, no pickle.

    bundle.json          format version, interface, action map, cameras, delays, limits, and the SHA-256 of every other file
    policy/              the policy folder (`policies.folder`)
    policy.onnx          the greedy chunk for onnxruntime, where the policy allows it
    sample.safetensors   recorded observations, and what the policy and the action map made of them (`policies.sample`)

Whatever is declared twice must agree, and an error names the term that does not.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import ValidationError

from policies.bundle import Bundle, BundleError, parse_bundle, sentence
from policies.interface import PolicySpec
from policies.sample import check_sample

DESCRIPTION, SAMPLE, ONNX, SPEC = "bundle.json", "sample.safetensors", "policy.onnx", "policy/spec.json"
REQUIRED = (SPEC, "policy/config.yaml", SAMPLE)


def read_bundle(folder: Path) -> Bundle:
    """Read `bundle.json` and check every file against it; `policies.deployed.open_bundle` also runs the policy on the sample.

    Raises:
        BundleError: naming what is missing, changed, unknown or contradictory.
    """
    bundle = parse_bundle(_text(folder), str(folder / DESCRIPTION))
    _check_files(folder, bundle)
    try:
        spec = PolicySpec.load(folder / SPEC)
    except ValidationError as error:
        raise BundleError(f"{folder / SPEC} cannot be read: {sentence(error)}") from error
    bundle.spec.require_same(spec, f"{DESCRIPTION} and {SPEC}")
    check_sample(bundle, folder / SAMPLE)
    return bundle


def write_bundle(folder: Path, bundle: Bundle) -> Bundle:
    """Hash every file in `folder` and write `bundle.json`. Returns the bundle with its hashes."""
    files = {path.relative_to(folder).as_posix(): sha256(path) for path in _files(folder)}
    whole = bundle.model_copy(update={"files": files})
    (folder / DESCRIPTION).write_text(json.dumps(whole.model_dump(mode="json"), indent=2) + "\n")
    return whole


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text(folder: Path) -> str:
    try:
        return (folder / DESCRIPTION).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{folder} is not a bundle: {DESCRIPTION} cannot be read ({error}); make one with `vla-rl export`") from error


def _files(folder: Path) -> list[Path]:
    """Every file but `bundle.json`. Raises `BundleError` for a link: what it points to may change."""
    found = sorted(path for path in folder.rglob("*") if path != folder / DESCRIPTION)
    links = [path for path in found if path.is_symlink()]
    if links:
        raise BundleError(f"{links[0]} is a link; a bundle holds plain files only")
    return [path for path in found if path.is_file()]


def _check_files(folder: Path, bundle: Bundle) -> None:
    present = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    wanted = set(REQUIRED) | ({ONNX} if bundle.onnx else set())
    for name in sorted(wanted - bundle.files.keys()):
        raise BundleError(f"{folder / DESCRIPTION} lists no {name}; export the policy again")
    for name in sorted(bundle.files.keys() - present.keys()):
        raise BundleError(f"{folder / name} is missing; copy the whole bundle again")
    for name in sorted(present.keys() - bundle.files.keys()):
        raise BundleError(f"{present[name]} is not listed in {DESCRIPTION}: it does not belong to the bundle; remove it")
    for name, digest in bundle.files.items():
        if (found := sha256(present[name])) != digest:
            difference = f"its SHA-256 is {found[:12]}…, {DESCRIPTION} says {digest[:12]}…"
            raise BundleError(f"{present[name]} was changed or damaged: {difference}; copy the whole bundle again")
