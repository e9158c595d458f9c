"""``fewstep completion``: what the shell makes of it."""

import shutil
import subprocess
import sys

import pytest

from fewstep.cli import main
from fewstep.cli.main import COMMANDS
from tests.e2e.helpers import one_line

ASK = '. "$1"; COMP_WORDS=(fewstep "$2"); COMP_CWORD=1; _shtab_fewstep; echo "${COMPREPLY[@]}"'


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_commands(tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "complete.bash"
    script.write_text(capsys.readouterr().out)
    for typed in ("re", "p", ""):
        done = subprocess.run(["bash", "-c", ASK, "-", script, typed], capture_output=True, text=True)
        wanted = {name for name in COMMANDS if name.startswith(typed)}
        assert wanted <= set(done.stdout.split()), done.stderr


def test_without_the_package_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "zsh"]) == 2
    one_line(capsys.readouterr().err, "pip install 'fewstep[completion]'")
