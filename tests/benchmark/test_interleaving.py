"""The order in which models are built, warmed up and measured."""

from tests.helpers.benchmark_settings import settings
from transxnet.benchmark.benchmark_result import BenchmarkRow
from transxnet.benchmark.interleaving import WorkerProcess, prepare, rotated_orders
from transxnet.benchmark.settings import parse_benchmark_model
from transxnet.benchmark.worker import Failure


def test_each_round_starts_with_another_model():
    assert list(rotated_orders("abc", 4)) == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]


class FakeProcess(WorkerProcess):
    """Starts no process; records the requests."""

    def __init__(self, name: str, log: list[str], fails: set[str], **changes):
        super().__init__(BenchmarkRow(parse_benchmark_model(name, settings(device="cuda", **changes))))
        self.name, self.log, self.fails = name, log, fails

    def start(self):
        self.log.append(f"{self.name} start")
        self.row.failure = self.row.facts = None

    def send(self, command, *arguments):
        self._pending = command

    def receive(self):
        if self.row.failure:
            return None
        self.log.append(f"{self.name} {self._pending}")
        if self._pending in self.fails:
            self.fails.remove(self._pending)
            self.row.failure = Failure("out of memory", "", out_of_memory=True)
            return None
        if self._pending == "build":
            self.row.facts = object()
        return 7


def test_gpu_models_build_together_warm_up_alone_and_retry():
    log: list[str] = []
    workers = [
        FakeProcess("resnet18@compile", log, {"compile"}),
        FakeProcess("resnet34@eager", log, set()),
        FakeProcess("resnet50@compile=max-autotune", log, set()),
        FakeProcess("resnet26@compile", log, {"warm_up"}),
    ]
    prepare(workers, 1.0, lambda message: None)
    assert [line.replace("@", " ").split()[0][6:] + " " + line.split()[1] for line in log] == [
        *("18 build", "34 build", "50 build", "26 build"),
        *("18 choose_operators", "50 choose_operators", "26 choose_operators", "18 compile", "26 compile"),
        *("18 start", "18 build", "18 warm_up", "34 warm_up", "50 warm_up", "26 warm_up"),
    ]
    assert [worker.row.iterations for worker in workers] == [7, 7, 7, 0]
