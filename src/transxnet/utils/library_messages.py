"""Messages of other packages that would distract users of the command line."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


def hide_missing_cuda() -> None:
    """Hide PyTorch's warning, on importing its compiler, that a CUDA toolkit is installed but no GPU was found."""
    logging.getLogger("torch.utils.cpp_extension").addFilter(lambda record: "No CUDA runtime" not in str(record.msg))


@contextmanager
def brief_retries() -> Iterator[None]:
    """Print one line, not two per attempt, while the client of the Hugging Face Hub repeats requests that fail."""
    printed = False

    def first_only(record: logging.LogRecord) -> bool:
        nonlocal printed
        message = record.getMessage()
        if "thrown while requesting" not in message and "Retrying in" not in message:
            return True
        if printed:
            return False
        printed = True
        record.msg, record.args = "Cannot reach the Hugging Face Hub. Trying again for up to a minute.", ()
        return True

    logger = logging.getLogger("huggingface_hub.utils._http")
    logger.addFilter(first_only)
    try:
        yield
    finally:
        logger.removeFilter(first_only)
