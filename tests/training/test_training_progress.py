import io
import re

from rich.console import Console

from tests.helpers.class_folders import QUICK
from transxnet.training.train import train


def test_lines_of_epochs_stand_above_one_bar(photos, tmp_path):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    train(photos, out=tmp_path / "run", console=console, **QUICK)
    shown = re.sub(r"\x1b\[[\d;?]*[A-Zlhm]", "", screen.getvalue().replace("\x1b[2K", "\n").replace("\r", "\n"))
    lines = [line for line in shown.splitlines() if line.strip()]
    for epoch in (1, 2):
        assert any(re.match(rf"epoch {epoch}/2 ━.* \d+/\d+ ", line) for line in lines)
        (finished,) = (line for line in lines if re.match(rf"epoch +{epoch}/2  loss", line))
        assert "━" not in finished
    assert any(line.startswith("validating ━") for line in lines)
    assert not any("Epoch" in line or "it/s" in line for line in lines)
