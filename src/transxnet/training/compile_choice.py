"""Whether compiling makes a long training on the CPU faster, by measurement."""

import torch

from transxnet.training.distributed import Hardware
from transxnet.training.plan import Plan
from transxnet.training.trial_steps import run_steps

MIN_STEPS = 2000
"""Number of steps of a training from which it is measured."""

MIN_SECONDS = 3600
"""Duration of a training without compilation from which the network is compiled, which takes minutes."""

MIN_GAIN = 1.1
"""Speed relative to the network as it is from which the compiled one is used."""

_STEPS = 4  # the first ones compile and allocate memory


def choose_compile(plan: Plan) -> tuple[bool, str] | None:
    """Measure whether compiling makes a long training on the CPU faster.

    Args:
        plan: plan of the training run, with all other options resolved.

    Returns:
        Whether to compile, and the reason; None for trainings that are short, deterministic, on other devices, of
        several processes, or of detectors and segmenters, whose images differ in size.
    """
    config, hardware = plan.config, plan.hardware
    assert isinstance(config.batch_size, int) and config.epochs is not None
    steps = len(plan.source.train_items) // config.batch_size * (config.epochs + config.cooldown_epochs)
    fixed_size = config.task in ("classify", "pretrain")
    if hardware != Hardware("cpu", 1) or config.deterministic or not fixed_size or steps < MIN_STEPS:
        return None
    eager = _seconds(plan, config.batch_size, False)
    if steps * eager < MIN_SECONDS:
        return None
    try:
        compiled = _seconds(plan, config.batch_size, True)
    except Exception as error:  # the compiler raises errors of many kinds, such as without a C++ compiler
        return False, f"it failed: {type(error).__name__}"
    gain = eager / compiled
    return gain >= MIN_GAIN, f"measured: {gain:.2f} times the speed"


def _seconds(plan: Plan, batch_size: int, compiled: bool) -> float:
    """Return the seconds of a step."""
    _, steps = run_steps(plan, batch_size, torch.device("cpu"), _STEPS, compiled)
    return min(seconds for _, seconds in steps)
