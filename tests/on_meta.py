"""torch's meta device in the place of a GPU: tensors without numbers, for tests of what lies and moves where.

An operation that mixes tensors of the host and of the device raises, as on CUDA. What Python asks of a tensor's values
is answered (a number is 0, a mask chooses every row, all are true and none is) and noted, because on CUDA the process
waits there until the device has computed them.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakTensorKeyDictionary

from methods.common.trajectories import trajectory
from models.policy import Policy

ROOT = Path(__file__).parents[1]
OURS = tuple(f"{ROOT / folder}/" for folder in ("bench", "methods", "models", "rewards"))
LOOPS = {Policy.sample.__code__, trajectory.__code__}
"""The denoising loops: evaluation's and most methods', and that of the methods that need log-probabilities."""

aten = torch.ops.aten
CPU = torch.device("cpu")
TRANSFERS = {aten._to_copy.default, aten.copy_.default}
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
PLAIN = {aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.silu.default, aten.sqrt.default}
IN_PLACE = {aten.add_.Tensor, aten.mul_.Tensor, aten.lerp_.Scalar, aten.addcmul_.default, aten.addcdiv_.default}
"""Operations whose result is like their first argument where all arguments are alike. torch finds that out in Python,
which would double the cost of the tests."""
LIKE_FIRST = PLAIN | IN_PLACE


class OnMeta(TorchDispatchMode):
    """Answers for the values of tensors on the meta device, and refuses to mix them with those of the host.

    Attributes:
        waits: (what was asked, where in the project, whether in a denoising loop), each time that CUDA would be waited
            for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[tuple[str, str, bool]] = []
        self._known = WeakTensorKeyDictionary()

    def in_loops(self) -> list[str]:
        """What the denoising loops waited for, and where."""
        return sorted({f"{what} in {where}" for what, where, looping in self.waits if looping})

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in TRANSFERS:
            return self._moved(func, args, kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if not any(tensor.is_meta for tensor in tensors):
            return func(*args, **kwargs)
        self._refuse_mixed(func, args, tensors)
        if func in LIKE_FIRST and _alike(tensors):
            return args[0] if func in IN_PLACE else torch.empty_like(args[0])
        if func is aten._local_scalar_dense.default:
            self._note("a value")
            return self._known.get(args[0], False if args[0].dtype == torch.bool else 0)
        if func is aten.nonzero.default:
            self._note("a mask")
            rows = torch.arange(args[0].numel(), device="meta")
            return rows[:, None].expand(-1, args[0].dim()).clone()
        if func in INDEXING:
            args = (args[0], [self._rows(index) for index in args[1]], *args[2:])
        made = func(*args, **kwargs)
        if func in (aten.all.default, aten.any.default):
            self._known[made] = func is aten.all.default
        return made

    def _moved(self, func: Any, args: Any, kwargs: Any) -> Any:
        source, target = (args[1], args[0].device) if func is aten.copy_.default else (args[0], kwargs.get("device"))
        target = source.device if target is None else torch.device(target)
        if source.device == target:
            return func(*args, **kwargs)
        waiting = not (kwargs.get("non_blocking") or (len(args) > 2 and args[2])) or target == CPU
        if waiting:
            self._note(f"a copy to the {'host' if target == CPU else 'device'}")
        if target != CPU:
            return func(*args, **kwargs)
        values = torch.zeros(source.shape, dtype=kwargs.get("dtype") or source.dtype)
        return args[0].copy_(values) if func is aten.copy_.default else values

    def _rows(self, index: Tensor | None) -> Tensor | None:
        """A mask as the numbers of all rows, as CUDA finds them, and numbers of the host on the device."""
        if index is None:
            return None
        if index.dtype == torch.bool:
            assert index.dim() == 1, "only masks of rows are answered"
            if index.is_meta:
                self._note("a mask")
            return torch.arange(len(index), device="meta")
        if not index.is_meta:
            self._note("a copy to the device")
        return index.to("meta", non_blocking=True)

    @staticmethod
    def _refuse_mixed(func: Any, args: Any, tensors: list[Tensor]) -> None:
        """As CUDA does: the host's numbers without dimensions may go with any tensor, and its indices into one."""
        of_host = [tensor for tensor in tensors if not tensor.is_meta and tensor.dim()]
        if func in INDEXING and args[0].is_meta:
            indices = {id(index) for index in args[1]}
            of_host = [tensor for tensor in of_host if id(tensor) not in indices]
        if of_host:
            raise RuntimeError(f"{func} is given tensors of the host and of the device")

    def _note(self, what: str) -> None:
        frames = list(_frames())
        ours = next((frame for frame in frames if frame.f_code.co_filename.startswith(OURS)), None)
        where = f"{Path(ours.f_code.co_filename).relative_to(ROOT)}:{ours.f_lineno}" if ours else "a library"
        self.waits.append((what, where, any(frame.f_code in LOOPS for frame in frames)))


class _FromLists(TorchFunctionMode):
    """Notes what is made of Python's numbers on the device, which no operation shows."""

    def __init__(self, note: Callable[[str], None]):
        super().__init__()
        self.note = note

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            made = args[0].is_meta and any(isinstance(each, list) for each in index)
        else:
            made = func in (torch.tensor, torch.as_tensor) and str(kwargs.get("device")) == "meta"
        if made:
            self.note("a copy to the device")
        return func(*args, **kwargs)


def _alike(tensors: list[Tensor]) -> bool:
    first = tensors[0]
    return first.is_floating_point() and all(
        tensor.shape == first.shape and tensor.dtype == first.dtype and tensor.is_meta for tensor in tensors
    )


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


@contextmanager
def on_meta() -> Iterator[OnMeta]:
    """Inside the block the meta device behaves as a GPU would; a file that torch saves has values, all of them 0."""
    save: Callable[..., None] = torch.save

    def save_values(payload: Any, *args: Any, **kwargs: Any) -> None:
        save(tree_map_only(Tensor, lambda tensor: tensor.cpu(), payload), *args, **kwargs)

    with mock.patch("torch.save", save_values), OnMeta() as mode, _FromLists(mode._note):
        yield mode
