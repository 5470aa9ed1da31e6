"""Functions that torch.fx records as one node."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from torch import Tensor
from torch.fx import Proxy

P = ParamSpec("P")
T = TypeVar("T", bound=Tensor)


def fx_leaf(function: Callable[P, T]) -> Callable[P, T]:
    """Let torch.fx record calls of a function as one node, since it cannot trace what depends on the input.

    ``torch.fx.wrap`` does this only for calls from the module that names the function.

    Args:
        function: takes a tensor first.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        first: Any = args[0] if args else next(iter(kwargs.values()), None)
        if isinstance(first, Proxy):
            return first.tracer.create_proxy("call_function", call, args, kwargs)  # type: ignore[return-value]
        return function(*args, **kwargs)

    return call
