"""Build the book, show it in the browser, and build it again whenever a source changes: ``python tools/serve.py``."""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
from pathlib import Path

from livereload import Server

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
BUILD = ["jupyter-book", "build", "--all", "-W", "-n", "--keep-going", "--quiet", "."]
WATCHED = [
    "*.md",
    "_config.yml",
    "_toc.yml",
    "references.bib",
    "chapters/*.ipynb",
    "ddim_lib/*.py",  # chapters show parts of it
    "images/*",
    "images/dark/*",
    "results/*",
    "_ext/*.py",
    "_static/*",
    "tools/ledger.py",
    "web/*.js",
    "web/*.mjs",
    "web/*.css",
    "web/explorer/*",
    "web/playground/*",
]


def build() -> bool:
    """Build the pages; whether that went well. What went wrong stands on the terminal."""
    print("building ...", flush=True)
    program = Path(sys.executable).with_name(BUILD[0])
    done = subprocess.run([program, *BUILD[1:]], cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
    failure = "The build failed, for the reason above; the pages may be old. Waiting for the next change."
    print(failure if done.returncode else "built", flush=True)
    return done.returncode == 0


def is_free(port: int) -> bool:
    """Whether nothing listens at the port."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


def main(arguments: list[str]) -> int:
    """Build, serve, watch; ends with Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--no-browser", action="store_true", help="do not open the book")
    options = parser.parse_args(arguments)
    if not is_free(options.port):
        print(f"port {options.port} is taken; another one: make serve PORT={options.port + 1}", file=sys.stderr)
        return 1
    build()
    server = Server()
    for pattern in WATCHED:
        server.watch(str(ROOT / pattern), build)
    address = f"http://{HOST}:{options.port}/"
    print(f"The book: {address} (Ctrl-C ends this)", flush=True)
    delay = None if options.no_browser else 1  # seconds, until the server listens
    server.serve(port=options.port, host=HOST, root=str(ROOT / "_build" / "html"), open_url_delay=delay)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
