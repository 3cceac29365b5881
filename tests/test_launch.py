"""What Colab and Binder set up: the first cell of every notebook, the package's ranges, and `.binder/`."""

import ast
import os
import re
import subprocess
import sys
import tomllib

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from test_book import READ, code_cells, each_notebook, tracked_files
from test_style import CHAPTERS, ROOT, code_of

sys.path.append(str(ROOT / "tools"))
import notebooks

URL = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = [Requirement(text) for text in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["proofs"]]]
OTHER_NAMES = {"torch": "pytorch-cpu", "matplotlib": "matplotlib-base"}  # on conda-forge

# A fresh machine, played in a process of its own: the cell runs, the reader starts anew, and it runs again.
COLAB = """
import os, sys
from IPython.core.interactiveshell import InteractiveShell

def pip(line):
    print("pip", line)
    sys.path.append(os.path.abspath(".."))

start, shell = os.getcwd(), InteractiveShell.instance()
shell.register_magic_function(pip)
for _ in range(2):
    os.chdir(start)
    shell.run_cell(sys.argv[1]).raise_error()
    print(os.getcwd())
import stand_in
print(stand_in.__file__)
"""


def git(folder, *arguments):
    who = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True)


@pytest.fixture
def repository(tmp_path):
    """A repository with a library that is nowhere installed."""
    for name in ("stand_in/__init__.py", "chapters/chapter.ipynb"):
        (tmp_path / "origin" / name).parent.mkdir(parents=True)
        (tmp_path / "origin" / name).write_text("")
    git(tmp_path / "origin", "init", "--quiet")
    git(tmp_path / "origin", "add", ".")
    git(tmp_path / "origin", "commit", "--quiet", "--message", "all")
    return tmp_path / "origin"


def test_the_first_cell_of_a_lone_notebook_fetches_the_book_and_installs_its_library_once(repository, tmp_path):
    cell = notebooks.launch_cell(repository.as_uri()).source.replace("ddim_lib", "stand_in")
    content = tmp_path / "content"
    content.mkdir()
    environment = os.environ | {"IPYTHONDIR": str(tmp_path / "ipython")}
    command = [sys.executable, "-c", COLAB, cell]
    done = subprocess.run(command, cwd=content, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    book = content / "ddim-book"
    expected = [
        'pip install --quiet "..[proofs]"',
        *2 * [str(book / "chapters")],
        str(book / "stand_in" / "__init__.py"),
    ]
    assert done.stdout.splitlines() == expected


@each_notebook
def test_the_first_code_cell_is_the_one_that_sets_a_lone_notebook_up(notebook):
    first = code_cells(notebook)[0]
    assert first.source == notebooks.launch_cell(URL).source, "run `make refresh`"
    assert first.metadata == {"tags": ["remove-cell"]}
    assert first.outputs == []


def test_a_launch_cell_is_renewed_where_it_stands():
    cells = [nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell("1 + 1")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    for _ in range(2):
        notebooks.put_launch_cell(notebook)
        assert [cell.source for cell in notebook.cells] == ["# Title", notebooks.launch_cell(URL).source, "1 + 1"]


def test_the_address_of_the_repository_stands_in_one_place_and_in_the_cells_made_from_it():
    assert URL.startswith("https://")
    counts = {path: path.read_bytes().count(URL.encode()) for path in tracked_files()}
    holders = {path: count for path, count in counts.items() if count}
    assert holders == {ROOT / "_config.yml": 1} | dict.fromkeys(READ, 1)


def test_installing_the_library_with_its_extra_brings_all_that_the_chapters_import():
    trees = [ast.walk(ast.parse(code_of(path))) for path in CHAPTERS]
    imported = {
        re.split(r"\W", ast.unparse(node))[1]
        for tree in trees
        for node in tree
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    there = {requirement.name for requirement in NEEDED} | sys.stdlib_module_names | {"ddim_lib"}
    assert {"torch", "ddim_lib", "json"} <= imported
    assert imported - there == set()


def test_binder_gets_what_the_library_needs_in_the_same_ranges():
    environment = yaml.safe_load((ROOT / ".binder" / "environment.yml").read_text())
    given = {line.split()[0]: line.partition(" ")[2] for line in environment["dependencies"]}
    tools = {"python", "pip", "setuptools"}
    assert given["python"].split(",")[0] == PROJECT["requires-python"]
    assert {name: given[name] for name in given.keys() - tools} == {
        OTHER_NAMES.get(requirement.name, requirement.name): str(requirement.specifier) for requirement in NEEDED
    }
    assert os.access(ROOT / ".binder" / "postBuild", os.X_OK)
