"""Draw every figure of a notebook twice: as it is, and once more for a dark page.

An IPython extension, which ``tools/notebooks.py`` loads into the kernel of a chapter. The second picture is of the same
figure: what could not be read on the dark page gets a lighter tone of its colour. Images are left as they are.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from typing import Any

import numpy as np
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.pylabtools import print_figure
from matplotlib.artist import Artist
from matplotlib.collections import Collection
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Annotation, Text

PAGE = (0x12 / 255,) * 3  # --pst-color-background of sphinx-book-theme's dark pages
LIGHTEST = 0.85  # no lighter than the text of the page, if that is enough
# Kind of artist -> its colours, and how far each has to stand out (WCAG's contrast for text, and for graphics).
COLORS: dict[type[Artist], dict[str, float]] = {
    Text: {"color": 4.5},
    Line2D: {"color": 3.0, "markerfacecolor": 3.0, "markeredgecolor": 3.0},
    Patch: {"facecolor": 3.0, "edgecolor": 3.0},
    Collection: {"facecolor": 3.0, "edgecolor": 3.0},
}


def contrast(color: Any, other: Any = PAGE) -> float:
    """WCAG's contrast of two colours (red, green, blue in [0, 1]): from 1 to 21."""
    rgb = np.array([color[:3], other[:3]])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    dark, light = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return float((light + 0.05) / (dark + 0.05))


def for_dark(rgba: np.ndarray, least: float) -> np.ndarray:
    """A colour that can be seen on the page stays; the lightness of others is turned round, and their hue stays.

    That of a gray is always turned round, since the fainter of two grays is the one nearer to the page.
    """
    hue, lightness, saturation = colorsys.rgb_to_hls(*rgba[:3])
    if rgba[3] == 0 or (saturation > 0.1 and contrast(rgba) >= least):
        return rgba
    lightness = min(1 - lightness, LIGHTEST)
    while contrast(new := colorsys.hls_to_rgb(hue, lightness, saturation)) < least:
        lightness += 0.01
    return np.array([*new, rgba[3]])


def face_for_dark(rgba: np.ndarray, least: float) -> np.ndarray:
    """The same for the colour of an area, where white means the page."""
    return np.array([*PAGE, rgba[3]]) if (rgba[:3] == 1).all() else for_dark(rgba, least)


def repaint(artist: Artist, names: dict[str, float]) -> None:
    """Change the named colours of an artist (of a collection: each of its colours) where a dark page asks for it.

    All are read before one is changed, since those of edges and points may follow another.
    """
    old = {name: to_rgba_array(getattr(artist, f"get_{name}")()) for name in names}
    for name, colors in old.items():
        change = face_for_dark if name.endswith("facecolor") else for_dark
        new = np.array([change(rgba, names[name]) for rgba in colors])
        if len(colors):
            artist.set(**{name: new if isinstance(artist, Collection) else new[0]})


def artists(figure: Figure) -> Iterator[Artist]:
    """All that a figure is drawn of, with what matplotlib does not count among the children of a text."""
    for artist in figure.findobj():
        yield artist
        if isinstance(artist, Text) and artist.get_bbox_patch():
            yield artist.get_bbox_patch()
        if isinstance(artist, Annotation) and artist.arrow_patch:
            yield artist.arrow_patch


def darken(figure: Figure) -> None:
    """Recolour a drawn figure in place for a dark page; what shows data as colours keeps them."""
    figure.set_layout_engine("none")  # the layout that was found stays
    for artist in artists(figure):
        if isinstance(artist, Collection) and artist.get_array() is not None:
            continue
        for kind, names in COLORS.items():
            if isinstance(artist, kind):
                repaint(artist, names)


def pictures(figure: Figure) -> tuple[str, dict[str, str]] | None:
    """A figure's PNG, and as metadata the ``"dark"`` one (both in base64); the figure stays dark."""
    light = print_figure(figure, base64=True)
    if light is None:
        return None
    darken(figure)
    return light, {"dark": print_figure(figure, base64=True)}


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Take the place of the formatter that the inline backend sets when it is imported for the first time."""
    import matplotlib_inline.backend_inline  # noqa: F401

    shell.display_formatter.formatters["image/png"].for_type(Figure, pictures)
