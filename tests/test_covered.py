"""The floor under the share of the library that the tests run."""

import subprocess
import sys

import pytest
from test_style import ROOT

FLOOR = ROOT / "tools" / "covered.py"
PROGRAM = """\
import sys
for x in sys.argv[1:]:
    if x < '0':
        print('below')
    if x > '0':
        print('above')
"""


@pytest.mark.parametrize(
    ("arguments", "status", "shares"),
    [
        ("-1 0 1", 0, "100.0 % of statements, 100.0 % of branches"),
        ("-1 1", 0, "100.0 % of statements, 100.0 % of branches"),
        ("-1", 1, "83.3 % of statements, 66.7 % of branches"),
        ("0", 1, "66.7 % of statements, 66.7 % of branches"),
    ],
)
def test_a_share_below_the_floor_fails(tmp_path, arguments, status, shares):
    (tmp_path / "program.py").write_text(PROGRAM)
    run = [sys.executable, "-m", "coverage"]
    options = {"cwd": tmp_path, "check": True, "capture_output": True}
    subprocess.run([*run, "run", "--branch", "--rcfile=", "program.py", *arguments.split()], **options)
    subprocess.run([*run, "json", "--rcfile=", "-o", "report.json"], **options)
    done = subprocess.run(
        [sys.executable, FLOOR, tmp_path / "report.json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == status
    assert shares in done.stdout
    assert ("Too little" in done.stderr) == bool(status)
