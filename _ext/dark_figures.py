"""Show each figure in the colours of the page: beside a picture stands its dark twin, and the style sheet hides one.

The twin of a notebook's figure called NAME, or of a file NAME.png, is ``images/dark/NAME.png`` (``make refresh`` writes
them). The browser loads the hidden one only when it is to be shown: that is what ``loading="lazy"`` does there.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.images import get_image_size
from sphinx.writers.html5 import HTML5Translator

DARK = PurePosixPath("images/dark")


def twin_of(image: nodes.image, source: Path) -> str | None:
    """The path of an image's dark twin below the source folder, if there is one."""
    figure = image.parent
    while figure is not None and not isinstance(figure, nodes.figure):
        figure = figure.parent
    names = [*(figure["names"] if figure else []), PurePosixPath(image["uri"]).stem]
    return next((str(twin) for name in names if (source / (twin := DARK / f"{name}.png")).exists()), None)


class Twins(SphinxTransform):
    """Put the dark twin behind each image of a page, and load all images but the page's first when they are near."""

    default_priority = 500

    def apply(self) -> None:
        """Change the page's tree."""
        source = Path(self.env.srcdir)
        for number, image in enumerate(list(self.document.findall(nodes.image))):
            if number:
                image["loading"] = "lazy"
            if twin := twin_of(image, source):
                dark = image.deepcopy()
                # `dark-light` keeps the theme from dimming the picture and from putting it on white.
                dark.update_basic_atts({"classes": ["dark-twin", "dark-light"]})
                dark["uri"], dark["loading"] = f"/{twin}", "lazy"
                image["classes"].append("light-twin")
                image.parent.insert(image.parent.index(image) + 1, dark)
                self.env.note_dependency(str(source / twin))


def visit_image(self: HTML5Translator, node: nodes.image) -> None:
    """Write an image with its size, so that nothing moves when it arrives."""
    file = Path(self.builder.srcdir) / node["uri"]
    HTML5Translator.visit_image(self, node)
    if file.exists() and (size := get_image_size(file)):
        self.body[-1] = self.body[-1].replace("<img ", f'<img width="{size[0]}" height="{size[1]}" ', 1)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_transform(Twins)
    app.add_node(nodes.image, override=True, html=(visit_image, HTML5Translator.depart_image))
    return {"parallel_read_safe": True}
