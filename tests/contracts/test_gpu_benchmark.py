"""The benchmark of a GPU, rehearsed on the CPU."""

import json
import sys
import time

import pytest

from benchmarks.gpu import GPU, NOT_MEASURED, PARTS, REHEARSAL, main, run_within, write_tables


def test_parts_fit_into_eight_minutes():
    assert sum(part.seconds for part in PARTS.values()) * GPU.time_factor <= 8 * 60


@pytest.mark.parametrize("sizes", [GPU, REHEARSAL], ids=["gpu", "rehearsal"])
def test_commands_write_into_the_folder_of_their_part(sizes, tmp_path):
    for name, part in PARTS.items():
        commands = part.commands(sizes, tmp_path / name)
        assert commands
        if name != "choices":  # its table is its log
            assert all(str(tmp_path / name) in " ".join(command) for command in commands)


def test_command_is_stopped_with_its_children_when_time_is_up():
    start = time.monotonic()
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    with open("/dev/null", "w") as log:
        assert run_within([sys.executable, "-c", program], 1.0, log) == "stopped: no time left"
        assert run_within([sys.executable, "-c", program], 0, log) == "no time left"
    assert time.monotonic() - start < 30


def test_tables_of_missing_parts_say_not_yet_measured(tmp_path):
    write_tables(tmp_path)
    assert (tmp_path / "tables.md").read_text().count(NOT_MEASURED) == len(PARTS)
    assert json.loads((tmp_path / "results.json").read_text()) == {}


@pytest.mark.long
def test_part_is_run_once_and_skipped_when_complete(tmp_path, capsys):
    for _ in range(2):
        main([str(tmp_path), "--parts", "kernels", "--rehearse"])
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("exit statuses [0]")
    assert second == "kernels: complete"
    assert "| tests | failures | errors | skipped |" in (tmp_path / "tables.md").read_text()


@pytest.mark.long
def test_rehearsal_fills_every_table(tmp_path, capsys):
    main([str(tmp_path), "--rehearse"])
    assert NOT_MEASURED not in (tmp_path / "tables.md").read_text(), capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results) == list(PARTS)
    assert {status for result in results.values() for status in result["statuses"]} == {0}
