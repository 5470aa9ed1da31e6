"""Functions that torch.fx records as one node, and torch.jit.script compiles in a plain form."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from torch import Tensor
from torch.fx import Proxy

P = ParamSpec("P")
T = TypeVar("T", bound=Tensor)


def fx_leaf(scripted: Callable[..., Tensor] | None = None) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Let torch.fx record calls of a function as one node, since it cannot trace what depends on the input.

    ``torch.fx.wrap`` does this only for calls from the module that names the function.

    Args:
        scripted: what ``torch.jit.script`` compiles in place of the function, with the same positional arguments; by
            default the function.

    Returns:
        A decorator for functions that take a tensor first.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            first: Any = args[0] if args else next(iter(kwargs.values()), None)
            if isinstance(first, Proxy):
                return first.tracer.create_proxy("call_function", call, args, kwargs)  # type: ignore[return-value]
            return function(*args, **kwargs)

        call.__prepare_scriptable__ = lambda: scripted or function  # type: ignore[attr-defined]
        return call

    return decorate
