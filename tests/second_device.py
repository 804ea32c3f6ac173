"""A second device that holds numbers: tensors that say they are on torch's `meta` device, computed on the CPU.

Operations that mix devices are refused as on CUDA. Unlike torch's meta and fake tensors these have values, so that whole runs,
with their checks for NaN, go through and can be held against the same on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
ANY_INDEX = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default}
"""Their indices may be on the CPU."""
MOVES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}


class DeviceTensor(torch.Tensor):
    """Says that it is on the device; `held` has its numbers."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, real: torch.Tensor) -> DeviceTensor:
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, real.size(), strides=real.stride(), storage_offset=real.storage_offset(), dtype=real.dtype, device=DEVICE
        )  # fmt: skip
        tensor.held = real
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


@contextmanager
def second_device() -> Iterator[None]:
    """Within it `meta` is that device. Raises `RuntimeError` where an operation mixes devices, or draws from a CPU generator there."""
    overwriting = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # parameters that move become tensors of another type
    try:
        with (
            sdpa_kernel(SDPBackend.MATH),
            mock.patch.object(torch, "autocast", _full_precision),
            mock.patch.object(torch, "tensor", _tensor),
            _Mode(),
        ):
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwriting)


def _full_precision(device: str, dtype: torch.dtype | None, enabled: bool) -> nullcontext[None]:
    """torch has no autocast for `meta`."""
    assert not enabled
    return nullcontext()


def _tensor(
    data: Any, device: torch.device | str | None = None, dtype: torch.dtype | None = None, make: Any = torch.tensor
) -> torch.Tensor:
    """torch's own would make a tensor without numbers."""
    value = make(data, dtype=dtype)
    return value if device is None else value.to(device)


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    asked = kwargs.get("device")
    tensors = [
        leaf for leaf in tree_leaves(args[:1] + args[2:3] if func in ANY_INDEX else (args, kwargs)) if isinstance(leaf, torch.Tensor)
    ]
    there = [tensor for tensor in tensors if isinstance(tensor, DeviceTensor)]
    if there and func not in MOVES and any(tensor.dim() for tensor in tensors if not isinstance(tensor, DeviceTensor)):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, found meta and cpu")
    if func in ANY_INDEX and not there and any(isinstance(leaf, DeviceTensor) for leaf in tree_leaves(args)):
        raise RuntimeError(f"{func}: indices on meta for a tensor on the cpu")
    placed = asked.type == DEVICE.type if asked is not None else bool(there)
    if func is torch.ops.aten.copy_.default:
        placed = isinstance(args[0], DeviceTensor)
    generator = kwargs.get("generator")
    if placed and generator is not None and generator.device.type == "cpu":
        raise RuntimeError(f"{func}: expected a generator of its device, found a cpu one")
    if asked is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    wrappers = {id(tensor.held): tensor for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, DeviceTensor)}

    def wrap(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return wrappers.get(id(value)) if id(value) in wrappers else DeviceTensor(value)

    result = func(*tree_map(_unwrap, args), **tree_map(_unwrap, kwargs))
    return tree_map(wrap, result) if placed else result


def _unwrap(value: Any) -> Any:
    return value.held if isinstance(value, DeviceTensor) else value
