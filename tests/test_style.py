"""Rules of the project that a reader of the syntax trees can check: names, lengths, and no pickle."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = sorted((ROOT / "ddim_lib").rglob("*.py"))
TOOLS = sorted(path for name in ("tools", "_ext", "benchmarks") for path in (ROOT / name).glob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
LONG_FUNCTIONS = {
    "unet.py: UNet.__init__": "the network's layout is read in one piece",
}
PICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
LOADERS = {"torch.load", "torch.save", "torch.jit.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}
RUNNERS = {"eval", "exec", "compile", "__import__"}


def code_of(notebook):
    """The code cells of a notebook as one module, without the lines that are IPython's own."""
    cells = [cell.source for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    lines = "\n".join(cells).splitlines()
    return "\n".join(re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in lines)


def source_of(path):
    return code_of(path) if path.suffix == ".ipynb" else path.read_text()


def banned_names(source):
    """Lines where a variable, argument, function, class or import is called by the name that means two things."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = [getattr(node, "id", None), getattr(node, "arg", None) if isinstance(node, ast.arg) else None]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.ExceptHandler):
            names.append(node.name)
        if isinstance(node, ast.alias):
            names.append(node.asname or node.name)
        if isinstance(node, ast.Global | ast.Nonlocal):
            names += node.names
        if "alpha" in names:
            found.append(node.lineno)
    return found


def uses_of_pickle(source):
    """Lines that import a pickler, run text as code, or call what unpickles, or may."""
    found = []
    for node in ast.walk(ast.parse(source)):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call):
            allowed = any(keyword.arg == "allow_pickle" for keyword in node.keywords)
            modules = ["pickle"] if allowed or getattr(node.func, "id", None) in RUNNERS else []
        elif isinstance(node, ast.Attribute):
            modules = [ast.unparse(node)]
        for module in modules:
            parts = module.split(".")
            if parts[0] in PICKLERS or module in LOADERS or parts[-1] in ("read_pickle", "load_state_dict_from_url"):
                found.append(node.lineno)
    return found


def functions(tree, prefix=""):
    """(qualified name, node) of every function that stands in a module or a class."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")


def body_lines(node, source):
    """Lines of a function without its signature, docstring and blank lines."""
    first = node.body[1:] if ast.get_docstring(node) is not None else node.body
    if not first:
        return 0
    lines = source.splitlines()[first[0].lineno - 1 : node.end_lineno]
    return sum(bool(line.strip()) for line in lines)


# The rules


def test_the_library_and_the_tests_are_looked_at():
    assert {"samplers.py", "unet.py", "__main__.py"} <= {path.name for path in LIBRARY}
    assert Path(__file__) in TESTS


@pytest.mark.parametrize(
    "path", [*LIBRARY, *TOOLS, *TESTS, *CHAPTERS], ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_the_name_that_means_two_things_is_not_used(path):
    assert banned_names(source_of(path)) == []


@pytest.mark.parametrize("path", [*LIBRARY, *TOOLS, *CHAPTERS], ids=lambda path: path.name)
def test_nothing_unpickles(path):
    assert uses_of_pickle(source_of(path)) == []


@pytest.mark.parametrize("path", [*LIBRARY, *TOOLS], ids=lambda path: path.name)
def test_a_file_holds_one_concept_in_250_lines(path):
    assert len(path.read_text().splitlines()) <= 250


@pytest.mark.parametrize("path", [*LIBRARY, *TOOLS], ids=lambda path: path.name)
def test_a_function_has_at_most_25_lines(path):
    source = path.read_text()
    lengths = {f"{path.name}: {name}": body_lines(node, source) for name, node in functions(ast.parse(source))}
    assert {name: n for name, n in lengths.items() if n > 25 and name not in LONG_FUNCTIONS} == {}


@pytest.mark.parametrize("name", LONG_FUNCTIONS)
def test_every_exception_to_the_length_of_functions_still_exists(name):
    file, function = name.split(": ")
    assert function in dict(functions(ast.parse((ROOT / "ddim_lib" / file).read_text())))


# The checks find what they are for


NAME = "alpha"  # in two halves, so that this file passes its own test


@pytest.mark.parametrize(
    "source",
    [
        "{} = 1",
        "def f({}): pass",
        "def f(*, {}=1): pass",
        "lambda {}: 1",
        "for {} in x: pass",
        "def {}(): pass",
        "import x as {}",
        "from x import {}",
        "print({})",
        "[{} for {} in x]",
    ],
)
def test_the_banned_name_is_found_wherever_it_can_stand(source):
    assert banned_names(source.replace("{}", NAME)) != []


@pytest.mark.parametrize("source", ["x.{} = 1", "plot(x, {}=0.5)", "{}_bar = 1", "'{}'", "# {}"])
def test_attributes_keywords_and_longer_names_are_free(source):
    assert banned_names(source.replace("{}", NAME)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "import joblib",
        "torch.load('x')",
        "load = torch.load",
        "from torch import load",
        "torch.save(x, 'x')",
        "np.load('x', allow_pickle=True)",
        "pd.read_pickle('x')",
        "eval('x')",
        "exec(text)",
        "yaml.load(text)",
        "torch.hub.load_state_dict_from_url(url)",
    ],
)
def test_uses_of_pickle_are_found(source):
    assert uses_of_pickle(source) != []


@pytest.mark.parametrize("source", ["safetensors.torch.load(data)", "np.load('x')", "json.load(file)", "unet.eval()"])
def test_other_loaders_are_free(source):
    assert uses_of_pickle(source) == []


def test_lines_of_a_function_are_counted_without_signature_docstring_and_blank_lines():
    source = 'def f(\n    x,\n):\n    """Doc.\n\n    More.\n    """\n    y = x\n\n    return (\n        y\n    )\n'
    assert body_lines(ast.parse(source).body[0], source) == 4
