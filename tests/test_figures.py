"""Figures for dark pages: every picture has a twin that can be read there, and the pages show it."""

import base64
import re
import sys
from importlib.metadata import distribution
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb, to_rgba_array
from PIL import Image
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace
from test_book import READ, code_cells
from test_style import ROOT

sys.path += [str(ROOT / "tools"), str(ROOT / "_ext")]
import darken
import notebooks

FIGURES = {
    cell.metadata["mystnb"]["figure"]["name"]: base64.b64decode(out.data["image/png"])
    for notebook in READ.values()
    for cell in code_cells(notebook)
    for out in cell.outputs
    if "image/png" in out.get("data", {})
}
FILES = {picture.stem: picture.read_bytes() for picture in notebooks.PICTURES}


def pixels(png):
    with Image.open(BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"), dtype=float) / 255


@pytest.fixture
def figure():
    plt.rcdefaults()
    figure, _ = plt.subplots(figsize=(3, 2))
    yield figure
    plt.close(figure)


# The files


def test_every_picture_has_a_dark_twin_and_no_other_is_kept():
    assert len(FIGURES) > 50
    assert {path.stem for path in notebooks.DARK.iterdir()} == FIGURES.keys() | FILES.keys(), "run `make refresh`"


@pytest.mark.parametrize("name", [*FIGURES, *FILES])
def test_a_dark_twin_has_the_size_of_the_picture_and_the_page_for_its_ground(name):
    light, dark = pixels((FIGURES | FILES)[name]), pixels((notebooks.DARK / f"{name}.png").read_bytes())
    assert dark.shape == light.shape
    edges = [dark[0], dark[-1], dark[:, 0], dark[:, -1]]
    assert np.allclose(np.concatenate(edges), darken.PAGE)


def test_pictures_on_other_pages_are_those_of_the_chapters():
    assert notebooks.PICTURES
    for picture, (_, name) in notebooks.PICTURES.items():
        assert picture.read_bytes() == FIGURES[name], "run `make refresh`"
        twins = [notebooks.DARK / file for file in (picture.name, f"{name}.png")]
        assert twins[0].read_bytes() == twins[1].read_bytes()


def test_the_ground_is_that_of_the_themes_dark_pages():
    css = distribution("sphinx-book-theme").locate_file(
        "sphinx_book_theme/theme/sphinx_book_theme/static/styles/sphinx-book-theme.css"
    )
    color = re.search(r"html\[data-theme=dark\]\{[^}]*--pst-color-background:(#\w+)", css.read_text())[1]
    assert to_rgb(color) == darken.PAGE


# Recolouring


@pytest.mark.parametrize(("one", "other", "ratio"), [("#000", "#fff", 21), ("#777", "#fff", 4.48), ("r", "r", 1)])
def test_contrast_is_that_of_wcag(one, other, ratio):
    assert darken.contrast(to_rgb(one), to_rgb(other)) == pytest.approx(ratio, abs=0.01)


@pytest.mark.parametrize("least", [3.0, 4.5])
@pytest.mark.parametrize("color", ["k", "0.3", "#0072B2", "#00f", "#300", "#D55E00", "#121212"])
def test_a_dark_color_becomes_visible_and_keeps_its_hue_and_opacity(color, least):
    old = to_rgba_array(color, 0.3)[0]
    new = darken.for_dark(old, least)
    assert darken.contrast(new) >= least
    assert new[3] == 0.3
    assert np.argsort(new[:3], kind="stable").tolist() == np.argsort(old[:3], kind="stable").tolist()


@pytest.mark.parametrize("color", ["#56B4E9", "#E69F00", "#009E7350", "none"])
def test_a_color_that_can_be_seen_on_the_page_stays(color):
    for old in to_rgba_array(color):
        assert darken.for_dark(old, 3.0) is old


def test_of_two_grays_the_one_nearer_to_the_page_stays_nearer_to_it():
    black, gray, faint = (darken.contrast(darken.for_dark(old, 3.0)) for old in to_rgba_array(["k", "0.4", "0.7"]))
    assert black > gray > faint >= 3


def test_text_lines_points_and_arrows_stand_out_from_the_page(figure):
    (ax,) = figure.axes
    ax.plot([0, 1], "k-o", label="line")
    ax.scatter([0, 1], [1, 0], color=["k", "#00f"])
    ax.annotate("there", (0.5, 0.5), (0.2, 0.8), arrowprops={"arrowstyle": "->"}, bbox={"facecolor": "w"})
    ax.legend()
    darken.darken(figure)
    seen = set()
    for artist in darken.artists(figure):
        for kind, names in darken.COLORS.items():
            for name, least in names.items() if isinstance(artist, kind) else ():
                for rgba in to_rgba_array(getattr(artist, f"get_{name}")()):
                    assert rgba[3] == 0 or (*rgba[:3],) == darken.PAGE or darken.contrast(rgba) >= least
                    seen.add((kind.__name__, name))
    assert len(seen) == sum(map(len, darken.COLORS.values()))


def test_points_and_edges_that_follow_another_color_go_on_to(figure):
    (ax,) = figure.axes
    (line,) = ax.plot([0, 1], "k-o")
    dots = ax.scatter([0, 1], [1, 0], color="0.7")
    darken.darken(figure)
    for color in (line.get_markerfacecolor(), line.get_markeredgecolor()):
        assert np.array_equal(to_rgba_array(color), to_rgba_array(line.get_color()))
    assert darken.contrast(to_rgba_array(line.get_color())[0]) > 10
    assert np.array_equal(dots.get_edgecolor(), dots.get_facecolor())


def test_images_and_heat_maps_keep_their_colors(figure):
    (ax,) = figure.axes
    image = ax.imshow(np.eye(3), cmap="gray")
    mesh = ax.pcolormesh(np.eye(3), cmap="gray")
    figure.canvas.draw()
    before = image.make_image(figure.canvas.get_renderer())[0].copy(), mesh.get_facecolor()
    darken.darken(figure)
    figure.canvas.draw()
    assert np.array_equal(image.make_image(figure.canvas.get_renderer())[0], before[0])
    assert np.array_equal(mesh.get_facecolor(), before[1])


def test_both_pictures_are_of_one_size_and_an_empty_figure_has_none(figure):
    figure.axes[0].plot([0, 1])
    light, metadata = darken.pictures(figure)
    light, dark = (pixels(base64.b64decode(png)) for png in (light, metadata["dark"]))
    assert light.shape == dark.shape
    assert (light[0, 0] == 1).all()
    assert np.allclose(dark[0, 0], darken.PAGE)
    assert darken.pictures(plt.Figure()) is None


# The pages


@pytest.fixture
def page(tmp_path):
    for name in ("one.png", "two.png", "plain.png", "images/dark/fig-one.png", "images/dark/two.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(tmp_path / name)
    figures = [
        f".. figure:: {name}.png\n   :name: fig-{name}\n   :alt: about {name}\n\n   Caption.\n"
        for name in ("one", "two", "plain")
    ]
    (tmp_path / "index.rst").write_text("Title\n=====\n\n" + "\n".join(figures))

    def build(builder):
        settings = {"extensions": ["dark_figures"], "html_theme": "basic"}
        out = tmp_path / builder
        with docutils_namespace():
            Sphinx(tmp_path, None, out, tmp_path / "trees", builder, settings, status=None, freshenv=True).build()
        return re.findall(r"<img [^>]*>", (out / "index.html").read_text()), out

    return build


def test_a_page_has_each_picture_and_its_twin_and_loads_the_first_at_once(page):
    tags, out = page("html")
    assert [re.search(r'src="_images/([\w-]+)\.png"', tag)[1] for tag in tags] == [
        "one",
        "fig-one",
        "two",
        "two1",
        "plain",
    ]
    assert ['loading="lazy"' in tag for tag in tags] == [False, True, True, True, True]
    assert ["dark-twin dark-light" in tag for tag in tags] == [False, True, False, True, False]
    assert ["light-twin" in tag for tag in tags] == [True, False, True, False, False]
    assert [re.search(r'alt="about (\w+)"', tag)[1] for tag in tags] == ["one", "one", "two", "two", "plain"]
    assert all('width="40" height="30"' in tag for tag in tags)
    assert (out / "_images" / "fig-one.png").exists()
