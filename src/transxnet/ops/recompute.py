"""Compute cheap activations again in the backward pass instead of keeping them.

Autograd keeps the inputs of most operators. Outputs of GELU, norms and additions are cheap to compute from tensors that
are kept anyway. Within :func:`recompute_activations` they are not kept: each has a recipe, which the operators that
would keep it store instead. Results are the same.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef

from transxnet.ops.backend import is_observed, is_transforming
from transxnet.ops.batch_norm import batch_norm_c, normalize_c, takes_batch_norm_c


def recompute_activations(x: Tensor) -> AbstractContextManager:
    """Context in which the functions of this module have their outputs recomputed in the backward pass.

    It changes nothing without gradients, within another one or other hooks for saved tensors (gradient checkpointing),
    in compiled, traced and exported programs, under ``torch.func`` and dispatch modes.

    Args:
        x: the input of the layer that uses it.
    """
    applies = (
        type(x) is Tensor
        and not torch.compiler.is_compiling()
        and not x.is_inference()
        and torch.is_grad_enabled()
        and not torch.jit.is_tracing()
        and not is_transforming()
        and not is_observed()
        and _current_hooks() is None
    )
    return _Recipes() if applies else nullcontext()


def add(x: Tensor, y: Tensor) -> Tensor:
    """Compute ``x + y``, with a recipe. It keeps x and y, unless they have recipes."""
    return _with_recipe(x + y, torch.add, x, y)


def group_norm(x: Tensor, norm: nn.Module) -> Tensor:
    """Compute ``norm(x)``, with a recipe if it is a GroupNorm."""
    out = norm(x)
    if not _active_recipes() or type(norm) is not nn.GroupNorm or _has_hooks(norm):
        return out
    if out.dtype != x.dtype:  # autocast changed it
        return out
    groups, weight, bias, eps = norm.num_groups, _detached(norm.weight), _detached(norm.bias), norm.eps
    return _with_recipe(out, lambda x: F.group_norm(x, groups, weight, bias, eps), x)


def batch_norm(x: Tensor, norm: nn.Module, *, gelu: bool = False) -> Tensor:
    """Compute ``norm(x)``, or ``norm(GELU(x))``, with a recipe if it is a BatchNorm2d in training.

    The recipe's values are exactly those of the forward pass.
    """
    if type(norm) is not nn.BatchNorm2d or not norm.training or _has_hooks(norm):
        return norm(_gelu(x) if gelu else x)
    weight, bias, eps = norm.weight, norm.bias, norm.eps
    if norm.affine and norm.momentum is not None and takes_batch_norm_c(x):
        out, mean, variance = batch_norm_c(x, weight, bias, eps, gelu)
        _update_statistics(norm, mean, variance, x.numel() // x.shape[1])
        return _with_recipe(out, lambda x: normalize_c(x, mean, variance, weight.detach(), bias.detach(), eps, gelu), x)
    x, w, b = _gelu(x) if gelu else x, _detached(weight), _detached(bias)
    return _with_recipe(norm(x), lambda x: F.batch_norm(x, None, None, w, b, training=True, eps=eps), x)


@torch.no_grad()
def _update_statistics(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, values: int) -> None:
    """Update the running statistics, as the module does itself."""
    for running, new in ((norm.running_mean, mean), (norm.running_var, variance * (values / (values - 1)))):
        if running is not None:
            running.lerp_(new.to(running.dtype), cast(float, norm.momentum))
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)


class _Kept:
    """An input of a recipe that is kept. It must not change in place, which autograd detects for what it keeps."""

    def __init__(self, x: Tensor):
        self._x, self._version = x.detach(), x._version

    def value(self) -> Tensor:
        if self._x._version != self._version:
            raise RuntimeError(
                "a tensor that the backward pass needs was modified by an inplace operation. Use the out-of-place form."
            )
        return self._x


class _Recipe:
    """How to compute an activation again. The value is shared by all operators that need it."""

    def __init__(self, function: Callable[..., Tensor], inputs: list["_Kept | _Recipe"], strides: tuple[int, ...]):
        self._function, self._inputs, self._strides = function, inputs, strides
        self._value: Tensor | None = None
        self._uses = self._remaining = 0

    def add_use(self) -> "_Recipe":
        self._uses += 1
        return self

    def value(self) -> Tensor:
        if self._value is None:
            with torch.no_grad():
                value = self._function(*(source.value() for source in self._inputs))
                if value.stride() != self._strides:
                    value = torch.empty_strided(
                        value.shape, self._strides, dtype=value.dtype, device=value.device
                    ).copy_(value)
            self._value, self._remaining = value, self._uses
        value = self._value
        self._remaining -= 1
        if self._remaining <= 0:
            self._value = None
        return value


class _View(NamedTuple):
    """A saved tensor whose memory is the output of a recipe, or a part of it."""

    recipe: _Recipe
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int | torch.SymInt


class _Recipes(saved_tensors_hooks):
    """Stores a recipe for each saved tensor that has one."""

    def __init__(self) -> None:
        super().__init__(self._pack, _unpack)
        self._recipes: dict[int, tuple[StorageWeakRef, int, _Recipe]] = {}  # by storage, with the version of the tensor

    def __exit__(self, *args: object) -> None:
        super().__exit__(*args)
        self._recipes.clear()  # they hold tensors, and the hooks refer to this object

    def add(self, out: Tensor, function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> None:
        sources = [recipe.add_use() if (recipe := self.find(x)) else _Kept(x) for x in inputs]
        storage, recipe = out.untyped_storage(), _Recipe(function, sources, out.stride())
        self._recipes[storage._cdata] = StorageWeakRef(storage), out._version, recipe

    def find(self, x: Tensor) -> _Recipe | None:
        if found := self._recipes.get(x.untyped_storage()._cdata):
            storage, version, recipe = found
            if not storage.expired() and x._version == version:  # neither another tensor there nor a change in place
                return recipe
        return None

    def _pack(self, saved: Tensor) -> "Tensor | _View":
        recipe = self.find(saved)
        if recipe is None:
            return saved.detach()  # an operator's own output would form a reference cycle with it
        return _View(recipe.add_use(), saved.shape, saved.stride(), saved.storage_offset())


def _unpack(packed: "Tensor | _View") -> Tensor:
    if isinstance(packed, Tensor):
        return packed
    return packed.recipe.value().as_strided(packed.shape, packed.strides, packed.offset)


def _with_recipe(out: Tensor, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Return ``out``, which is ``function(*inputs)``; register its recipe in the current context, if there is one."""
    if recipes := _active_recipes():
        recipes.add(out, function, inputs)
    return out


def _active_recipes() -> _Recipes | None:
    if torch.compiler.is_compiling():
        return None
    pack = _current_hooks()
    owner = getattr(pack, "__self__", None)
    return owner if isinstance(owner, _Recipes) else None


def _current_hooks() -> Any:
    """The function that packs saved tensors, or None; PyTorch has no public check."""
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(False)
    return hooks[0] if hooks else None


def _gelu(x: Tensor) -> Tensor:
    return _with_recipe(F.gelu(x), F.gelu, x)


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _detached(parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else parameter.detach()
