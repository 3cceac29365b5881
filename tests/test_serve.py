"""`make serve`: what it watches, a port that is taken, a build that fails."""

import importlib.util
import socket

import pytest
from test_style import ROOT


@pytest.fixture
def serve():
    spec = importlib.util.spec_from_file_location("serve", ROOT / "tools" / "serve.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_port_that_is_taken_is_named_before_anything_is_built(serve, monkeypatch, capsys):
    monkeypatch.setattr(serve, "build", lambda: pytest.fail("built"))
    with socket.create_server((serve.HOST, 0)) as other:
        port = other.getsockname()[1]
        assert serve.main(["--port", str(port)]) == 1
    assert f"port {port} is taken; another one: make serve PORT={port + 1}" in capsys.readouterr().err


@pytest.mark.parametrize(("status", "said"), [(0, "built"), (1, "The build failed")])
def test_a_build_that_fails_is_said_and_ends_nothing(serve, monkeypatch, capfd, status, said):
    monkeypatch.setattr(
        serve, "BUILD", ["python", "-c", f"import sys; print('why', file=sys.stderr); sys.exit({status})"]
    )
    assert serve.build() == (status == 0)
    printed = capfd.readouterr()
    assert said in printed.out
    assert printed.err == "why\n"


def test_what_is_watched_and_rebuilt(serve, monkeypatch):
    watched, served = [], {}

    class Server:
        def watch(self, pattern, call):
            assert call is serve.build
            watched.append(pattern)

        def serve(self, **options):
            served.update(options)

    monkeypatch.setattr(serve, "Server", Server)
    monkeypatch.setattr(serve, "build", lambda: True)
    with socket.create_server((serve.HOST, 0)) as probe:
        port = probe.getsockname()[1]
    assert serve.main(["--port", str(port), "--no-browser"]) == 0
    assert (served["host"], served["port"], served["open_url_delay"]) == ("127.0.0.1", port, None)
    assert served["root"] == str(ROOT / "_build" / "html")
    for name in ("chapters/*.ipynb", "*.md", "_toc.yml", "_ext/*.py", "web/*.mjs", "results/*"):
        assert str(ROOT / name) in watched
        assert list(ROOT.glob(name))
