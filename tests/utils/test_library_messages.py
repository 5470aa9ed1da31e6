import logging

from transxnet.utils.library_messages import brief_retries, hide_missing_cuda


def test_retries_print_one_line(caplog):
    logger = logging.getLogger("huggingface_hub.utils._http")
    with caplog.at_level(logging.WARNING, logger.name):
        with brief_retries():
            for attempt in range(1, 4):
                logger.warning("'%s' thrown while requesting HEAD %s", "no name", "https://huggingface.co/x")
                logger.warning(f"Retrying in {attempt}s [Retry {attempt}/5].")
            logger.warning("another message")
        logger.warning("Retrying in 1s [Retry 1/5].")
    assert [record.getMessage() for record in caplog.records] == [
        "Cannot reach the Hugging Face Hub. Trying again for up to a minute.",
        "another message",
        "Retrying in 1s [Retry 1/5].",
    ]


def test_missing_cuda_is_hidden_and_nothing_else(caplog):
    logger = logging.getLogger("torch.utils.cpp_extension")
    hide_missing_cuda()
    with caplog.at_level(logging.WARNING, logger.name):
        logger.warning("No CUDA runtime is found, using CUDA_HOME='%s'", "/usr/local")
        logger.warning("no compiler")
    assert [record.getMessage() for record in caplog.records] == ["no compiler"]
