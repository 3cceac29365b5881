"""What the book's notebooks promise each other and the library; their outputs are compared by nbval."""

import ast
import importlib.util
from collections import defaultdict

import nbformat
import pytest
from test_style import CHAPTERS, ROOT, code_of

needs_chapters = pytest.mark.skipif(not CHAPTERS, reason="chapters/ holds no notebook yet")


@pytest.fixture(scope="module")
def tools():
    """tools/notebooks.py, which executes and seals the chapters."""
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "tools" / "notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def doubly_defined(sources):
    """Functions that more than one of the named sources defines."""
    places = defaultdict(set)
    for name, source in sources.items():
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef):
                places[node.name].add(name)
    return {function: names for function, names in places.items() if len(names) > 1}


@needs_chapters
def test_no_function_is_defined_in_two_notebooks():
    assert doubly_defined({path.name: code_of(path) for path in CHAPTERS}) == {}


def test_a_function_defined_twice_would_be_found():
    sources = {"one": "def f(): pass\ndef g(): pass", "two": "def f(): pass", "three": "def h(): pass"}
    assert doubly_defined(sources) == {"f": {"one", "two"}}


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_imports_the_library_and_defines_something(path):
    code = code_of(path)
    assert "import ddim_lib" in code or "from ddim_lib" in code
    assert len(code.splitlines()) > 20


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapters_outputs_come_from_the_present_code(path, tools):
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata.get("ddim_lib") == tools.seal(notebook), "run `make refresh`"


@pytest.mark.parametrize(
    ("file", "text"), [("samplers.py", "x = 2\n"), ("new.py", ""), ("weights/mnist.safetensors", "altered")]
)
def test_the_seal_breaks_with_any_change_of_code_or_weights(tools, tmp_path, file, text):
    (tmp_path / "weights").mkdir()
    (tmp_path / "samplers.py").write_text("x = 1\n")
    (tmp_path / "weights" / "mnist.safetensors").write_text("weights")
    before = tools.library_fingerprint(tmp_path)
    assert before == tools.library_fingerprint(tmp_path)
    (tmp_path / file).write_text(text)
    assert tools.library_fingerprint(tmp_path) != before
