"""Checks of the layers' arguments, with uniform error messages."""

from collections.abc import Callable, Collection, Mapping, Sequence
from fractions import Fraction
from typing import Any

from torch import nn

from transxnet.utils.errors import UserError, nearest


def check_positive(**sizes: int) -> None:
    """Raise ValueError unless every value is an integer of at least 1."""
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}")


def check_divisible(dim_name: str, dim: int, by_name: str, by: int) -> None:
    """Raise ValueError, naming the nearest sizes that work, unless ``by`` divides ``dim``."""
    if dim % by:
        below, above = dim // by * by, -(-dim // by) * by
        nearest = " or ".join(str(n) for n in (below, above) if n > 0)
        raise ValueError(f"{dim_name}={dim} must be divisible by {by_name}={by}; nearest accepted: {nearest}")


def check_odd(**sizes: int) -> None:
    """Raise ValueError unless every value is a positive odd integer, as a centered kernel needs."""
    check_positive(**sizes)
    for name, value in sizes.items():
        if value % 2 == 0:
            raise ValueError(f"{name} must be odd, got {value}")


def is_custom_part(value: Any) -> bool:
    """Whether this is a user's own part: a class, or any other callable that returns a module."""
    return callable(value) and not isinstance(value, nn.Module)


def resolve_part(option: str, value: Any, parts: Mapping[str | None, Callable], called_with: str) -> Callable:
    """Return the part that an option names; a user's own class is returned unchanged.

    Args:
        option: name of the option, for the error message.
        value: a name in ``parts``, or a class.
        parts: name -> the callable that makes the part.
        called_with: the arguments of a user's class, for the error message.

    Raises:
        UserError: any other value. The message lists the accepted names, the nearest one and ``called_with``.
    """
    if is_custom_part(value):
        return value
    if (value is None or isinstance(value, str)) and value in parts:
        return parts[value]
    close = nearest(value, [name for name in parts if name]) if isinstance(value, str) else ""
    hint = " Pass the class, not an instance." if isinstance(value, nn.Module) else ""
    raise UserError(
        f"{option} must be {', '.join(map(repr, parts))}, or a class that is called with ({called_with}), "
        f"got {value!r}.{close}{hint}"
    )


def check_bool(**values: bool) -> None:
    """Raise UserError unless every value is True or False."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise UserError(f"{name} must be True or False, got {value!r}.")


def check_ffn_scales(scales: Any) -> None:
    """Raise UserError unless these are odd kernel sizes, or none."""
    if not isinstance(scales, Sequence) or isinstance(scales, str):
        raise UserError(
            f"ffn_scales must be kernel sizes such as (1, 3, 5, 7), or () for the plain FFN, got {scales!r}."
            + (f" Did you mean ({scales},)?" if isinstance(scales, int) else "")
        )
    for scale in scales:
        if not isinstance(scale, int) or isinstance(scale, bool) or scale < 1 or scale % 2 == 0:
            odd = sorted({max(scale - 1, 1), max(scale + 1, 1)}) if type(scale) is int else []
            close = f" Nearest accepted: {' or '.join(map(str, odd))}." if odd else ""
            raise UserError(
                f"ffn_scales must be odd kernel sizes such as (1, 3, 5, 7), or () for the plain FFN, got {scale!r} in "
                f"{tuple(scales)}.{close}"
            )


def check_attn_ratio(ratio: Any, dims_and_heads: Collection[tuple[int, int]]) -> None:
    """Raise UserError, naming the nearest valid ratios, unless every block supports this fraction for attention.

    Args:
        ratio: fraction of the channels.
        dims_and_heads: channels and attention heads of each block. The heads must divide attention's channels, and
            the convolution needs channels too.
    """
    by_block = [{Fraction(heads * i, dim) for i in range(1, -(-dim // heads))} for dim, heads in dims_and_heads]
    allowed = sorted(set.intersection(*by_block))
    number = isinstance(ratio, int | float) and not isinstance(ratio, bool)
    if number and any(abs(ratio - share) < 1e-9 for share in allowed):
        return
    where = " and ".join(f"{dim} channels with {heads} heads" for dim, heads in dict.fromkeys(dims_and_heads))
    close = sorted(sorted(allowed, key=lambda share: abs(share - ratio))[:2]) if number else []
    raise UserError(
        f"attn_ratio must be between 0 and 1 and give channels divisible by the heads, for {where}, got {ratio!r}."
        + (f" Nearest accepted: {' or '.join(map(str, close))}." if close else "")
    )
