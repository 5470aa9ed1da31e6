"""Format counts and durations."""


def format_count(number: int, singular: str, plural: str | None = None) -> str:
    """Format a number with its noun, as in "1 image" or "2,000 images"."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def duration(seconds: float) -> str:
    """Format seconds in one or two suitable units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
