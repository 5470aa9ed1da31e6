"""The notebooks in examples/ are committed with their outputs, and run without an error."""

import json
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
MAX_KILOBYTES = 600

notebooks = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(content: dict) -> list[dict]:
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


def test_readme_lists_each_notebook():
    listed = re.findall(r"\]\((\S+\.ipynb)\)", (EXAMPLES / "README.md").read_text(encoding="utf-8"))
    assert listed == [path.name for path in NOTEBOOKS]
    assert len(listed) >= 4


@notebooks
def test_notebook_was_run_from_top_to_bottom(notebook):
    cells = code_cells(json.loads(notebook.read_text(encoding="utf-8")))
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))


@notebooks
def test_notebook_holds_outputs_and_figures_without_errors(notebook):
    outputs = [out for cell in code_cells(json.loads(notebook.read_text(encoding="utf-8"))) for out in cell["outputs"]]
    assert sum("image/png" in out.get("data", {}) or "image/jpeg" in out.get("data", {}) for out in outputs) >= 2
    assert [out for out in outputs if out["output_type"] == "error" or out.get("name") == "stderr"] == []


@notebooks
def test_notebook_names_no_absolute_path_and_is_small(notebook):
    content = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        for out in cell.get("outputs", []):
            out["data"] = {kind: text for kind, text in out.get("data", {}).items() if not kind.startswith("image/")}
    text = json.dumps(content).replace("\\n", " ")
    assert re.findall(r"(?<![\w.<])/(?:home|root|tmp|usr|opt|mnt|var|work|private|Users)\b[^\"\s]*", text) == []
    assert notebook.stat().st_size <= MAX_KILOBYTES * 1024


@pytest.mark.long
@notebooks
def test_notebook_runs(notebook, tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    content = nbformat.read(notebook, as_version=4)
    NotebookClient(content, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for cell in code_cells(content):
        assert cell["execution_count"] is not None
