"""The completion script, run in bash."""

import shutil
import subprocess

import pytest

from tests.helpers.command_line import invoke


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["pre"], {"predict", "pretrain"}),
        (["train", "--img"], {"--img-size"}),
        (["train", "digits", "--select", ""], {"best", "last"}),
        (["eval", "runs/one", "--dev"], {"--device"}),
    ],
)
def test_words_are_completed_in_bash(words, completed, tmp_path, capsys):
    status, script, _ = invoke(capsys, "completion", "bash")
    assert status == 0
    before = words[-2] if len(words) > 1 else "transxnet"
    line = " ".join(f"'{word}'" for word in ("transxnet", *words))
    code = f"""{script}
function=$(complete -p transxnet | sed 's/.*-F \\([^ ]*\\).*/\\1/')
COMP_WORDS=({line}); COMP_CWORD={len(words)}
$function transxnet '{words[-1]}' '{before}'
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    result = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert set(result.stdout.split()) == completed


def test_unknown_shell_is_refused(capsys):
    status, _, err = invoke(capsys, "completion", "fish")
    assert status == 2
    assert "SHELL must be 'bash' or 'zsh' or 'tcsh', got 'fish'" in err
