import subprocess
import sys
from importlib.metadata import version

from transxnet.utils import environment
from transxnet.utils.environment import collect_environment
from transxnet.version import __version__


def test_environment_names_versions_and_hardware():
    facts = collect_environment()
    assert facts["torch"] == version("torch")
    assert facts["transxnet"] == __version__
    assert facts["python"] == sys.version.split()[0]
    assert facts["cpu"].endswith(" cores")
    assert all(isinstance(value, str) and value for value in facts.values())


def git(folder, *words):
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", "-C", folder, *identity, *words], check=True, capture_output=True)


def test_commit_is_only_that_of_a_checkout_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "environment.py"))
    (tmp_path / "environment.py").write_text("")
    (tmp_path / "other.py").write_text("")
    git(tmp_path, "init")
    git(tmp_path, "add", "other.py")
    git(tmp_path, "commit", "-m", "first")
    assert "commit" not in collect_environment()  # an installed package inside an unrelated checkout
    git(tmp_path, "add", "environment.py")
    git(tmp_path, "commit", "-m", "second")
    commit = collect_environment()["commit"]
    assert len(commit) == 12 and int(commit, 16) >= 0
    (tmp_path / "environment.py").write_text("changed")
    assert collect_environment()["commit"] == f"{commit}-dirty"
