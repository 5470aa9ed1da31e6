"""Format counts, values and durations."""


def format_count(number: int, singular: str, plural: str | None = None) -> str:
    """Format a number with its noun, as in "1 image" or "2,000 images"."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def format_value(value: float) -> str:
    """Format a number with four significant digits, from 1,000 on as a whole number."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.4g}".rstrip(".")


def duration(seconds: float) -> str:
    """Format seconds in one or two suitable units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
