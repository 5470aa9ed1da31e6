"""What a layer's arguments must be, said in one voice."""


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
        raise ValueError(f"{dim_name}={dim} must be divisible by {by_name}={by}; the nearest that works: {nearest}")


def check_odd(**sizes: int) -> None:
    """Raise ValueError unless every value is a positive odd integer, as a centred kernel needs."""
    check_positive(**sizes)
    for name, value in sizes.items():
        if value % 2 == 0:
            raise ValueError(f"{name} must be odd, so that the kernel has a centre, got {value}")
