"""The process that measures one model: it receives commands and returns measurements.

Each model has its own process, so that peak memory is measured separately and a failure does not affect the others.
"""

import signal
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from textwrap import shorten
from typing import Any

import torch
from timm.utils import reparameterize_model
from torch import Tensor, nn

from transxnet.analysis.cost import Cost, count
from transxnet.benchmark.memory import peak_memory, reset_peak, resident_memory
from transxnet.benchmark.operator_profile import Operator, longest_operators
from transxnet.benchmark.settings import BenchmarkModel, Settings
from transxnet.deploy.reparameterize import reparameterize
from transxnet.utils.errors import UserError

WARM_UP_STEPS = {"cpu": 2, "cuda": 10}  # minimum
WARM_UP_BOUND = (50, 30.0)  # maximum, steps and seconds
STEADY = 0.05  # a model is warm when two consecutive steps differ by less than this fraction
ITERATIONS = {"cpu": 1, "cuda": 5}  # minimum in a round: a single step on a GPU would include its launch
GRAPH_MODES = ("reduce-overhead", "max-autotune")  # modes of torch.compile that use CUDA graphs


@dataclass(frozen=True)
class Failure:
    """Why a model could not be measured: one line, and in full."""

    reason: str
    details: str
    out_of_memory: bool = False


@dataclass(frozen=True)
class Facts:
    """Facts known about a model before it runs, and about its process.

    Attributes:
        parameters: parameters of the measured network.
        multiply_adds: MACs of convolutions and linear layers for one image, or None if they cannot be counted.
        attention_multiply_adds: MACs of attention's two matrix products for one image, or None.
        idle_memory: bytes that the process held before the network was created, by Python and PyTorch.
        threads: PyTorch's threads on the CPU.
        matmul_precision: PyTorch's precision of float32 matrix products.
        cudnn_tf32: whether cuDNN may compute float32 convolutions in TF32.
    """

    parameters: int
    multiply_adds: int | None
    attention_multiply_adds: int | None
    idle_memory: int
    threads: int
    matmul_precision: str
    cudnn_tf32: bool


def serve(connection: Connection, model: BenchmarkModel) -> None:
    """Run the received commands until the connection closes or an error occurs.

    A command is the name of one of :class:`Measurement`'s methods with its arguments. The response is the method's
    return value, or a :class:`Failure`, after which the process ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the main process ends this one
    measurement = Measurement(model)
    while True:
        try:
            command, *arguments = connection.recv()
        except EOFError:
            return
        try:
            response = getattr(measurement, command)(*arguments)
        except Exception as error:
            connection.send(describe_failure(error))
            return
        connection.send(response)


def describe_failure(error: Exception) -> Failure:
    """Describe an exception for the user."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else ""
    patterns = ("out of memory", "can't allocate memory")  # compilers wrap the error; the CPU has no error type
    out_of_memory = isinstance(error, MemoryError) or any(pattern in str(error) for pattern in patterns)
    if out_of_memory:
        reason = "out of memory"
    elif isinstance(error, UserError):
        reason = str(error)
    else:
        reason = shorten(f"{type(error).__name__}: {first}", 200, placeholder=" ...")
    return Failure(reason, "".join(traceback.format_exception(error)), out_of_memory)


class Measurement:
    """One model: built, compiled, warmed up and timed, in this order.

    Args:
        model: the model and how it is run.
    """

    def __init__(self, model: BenchmarkModel):
        self.model, self.settings = model, model.settings
        self.iterations = 0
        self.step: Callable[[], None]

    def build(self) -> Facts:
        """Create the network and its images."""
        torch.manual_seed(0)
        idle, settings = resident_memory(), self.settings
        model = self.model.create()
        if settings.reparameterize:
            model = _inference_form(model, settings)
        cost = _cost(model, settings.size)
        facts = Facts(
            parameters=sum(p.numel() for p in model.parameters()),
            multiply_adds=cost.multiply_adds if cost else None,
            attention_multiply_adds=cost.attention_multiply_adds if cost else None,
            idle_memory=idle,
            threads=torch.get_num_threads(),
            matmul_precision=torch.get_float32_matmul_precision(),
            cudnn_tf32=torch.backends.cudnn.allow_tf32,
        )
        self._network = model
        self.step = make_step(model, settings)
        return facts

    def choose_operators(self) -> None:
        """Run a step in eager mode, in which operators are chosen by measurement; compiled code uses these choices."""
        make_step(self._network, replace(self.settings, compile=None))()
        self._release()

    def compile(self) -> None:
        """Run the first step, which compiles. It may run in parallel with others: nothing is timed here."""
        self.step()
        self._release()

    def warm_up(self, seconds: float) -> int:
        """Run until the time of a step is steady.

        Args:
            seconds: target length of a round.

        Returns:
            The number of steps in a round.
        """
        device = self.settings.device
        # cuDNN times its algorithms on first use, so nothing else may run on the device from now on.
        torch.backends.cudnn.benchmark = True
        self._timed()
        start, times = time.perf_counter(), [self._timed(), self._timed()]
        most, longest = WARM_UP_BOUND
        while len(times) < most and time.perf_counter() - start < longest:
            if len(times) >= WARM_UP_STEPS[device] and abs(times[-1] - times[-2]) < STEADY * times[-1]:
                break
            times.append(self._timed())
        self.iterations = max(ITERATIONS[device], round(seconds / times[-1]))
        if device == "cpu" or self.settings.compile not in GRAPH_MODES:  # a graph allocates only when recorded
            reset_peak(device)
        self._release()
        return self.iterations

    def measure(self) -> float:
        """Milliseconds per batch in one round."""
        if self.settings.device == "cpu":
            start = time.perf_counter()
            for _ in range(self.iterations):
                self.step()
            return (time.perf_counter() - start) / self.iterations * 1e3
        self.step()  # untimed: allocates its memory again
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        before.record()
        for _ in range(self.iterations):
            self.step()
        after.record()
        torch.cuda.synchronize()
        elapsed = before.elapsed_time(after) / self.iterations
        self._release()
        return elapsed

    def peak_memory(self) -> int:
        """Peak bytes since the warm-up: on the device, or the process's resident memory."""
        return peak_memory(self.settings.device)

    def profile(self) -> list[Operator]:
        """The operators that take the most time, longest first."""
        return longest_operators(self.step, self.settings.device)

    def _timed(self) -> float:
        start = time.perf_counter()
        self.step()
        _synchronize(self.settings.device)
        return time.perf_counter() - start

    def _release(self) -> None:
        if self.settings.device == "cuda":  # the next model shares the device
            torch.cuda.synchronize()
            torch.cuda.empty_cache()


def _inference_form(model: nn.Module, settings: Settings) -> nn.Module:
    """Reparameterize one of our networks, or one of timm's that has another form for inference."""
    if any(hasattr(module, "reparameterize") for module in model.modules()):  # timm's FastViT and others
        return reparameterize_model(model)
    # Compilers and GPUs run faster with the bias kept resized; eager on a CPU needs less memory without.
    kept = settings.compile is not None or settings.device != "cpu"
    return reparameterize(model, settings.size if kept else None)


def make_step(model: nn.Module, settings: Settings) -> Callable[[], None]:
    """Create a function that runs the model on a batch of random images: a forward pass or a whole training step."""
    train, device, dtype = settings.mode == "train", settings.device, getattr(torch, settings.dtype)
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    model = model.to(device, memory_format=layout).train(train)  # type: ignore[call-overload]
    images = torch.randn(settings.batch, 3, *settings.size, device=device)
    if not train and not settings.under_autocast:
        model, images = model.to(dtype), images.to(dtype)
    images = images.contiguous(memory_format=layout)
    run: Callable[[Tensor], Any] = model
    if settings.compile is not None:
        run = torch.compile(model, mode=settings.compile)

    def context() -> AbstractContextManager:
        return torch.autocast(device, dtype) if settings.under_autocast else nullcontext()

    def infer() -> None:
        with torch.inference_mode(), context():
            run(images)

    if not train:
        return infer
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16)
    loss = _Loss()

    def update() -> None:
        with context():
            value = loss(run(images))
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    return update


class _Loss:
    """The loss of a model's training output.

    For logits (B, classes) it is the cross-entropy with random labels, for a list of features the sum of their mean
    squares, for a detector's losses by name their sum.
    """

    labels: Tensor | None = None

    def __call__(self, output: Tensor | Sequence[Tensor] | Mapping[str, Tensor]) -> Tensor:
        if isinstance(output, Mapping):
            return torch.stack(list(output.values())).sum()
        if not isinstance(output, Tensor):
            return torch.stack([feature.float().square().mean() for feature in output]).sum()
        if self.labels is None:
            self.labels = torch.randint(output.shape[1], output.shape[:1], device=output.device)
        return nn.functional.cross_entropy(output, self.labels)


def _cost(model: nn.Module, size: tuple[int, int]) -> Cost | None:
    try:
        return count(model, *size)
    except Exception:  # a user's network need not run on the meta device, and is measured all the same
        return None


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
