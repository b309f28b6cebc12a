"""What every test shares: the GPU gate, the versions in the report's header, a run for others to equal, a browser."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from importlib.metadata import version

import pytest
from hypothesis import HealthCheck, settings

from tests.pictures import face_photo
from tests.runs import NUM_PHOTOS, finish

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
"""The threads of a network sleep while they have nothing to do: by themselves they keep the cores from other tests."""

settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("no clock"), max_examples=15)
settings.load_profile("no clock")


def pytest_report_header():
    names = ("torch", "torchvision", "onnxruntime", "pillow", "pyarrow", "polars", "typer")
    return "versions: " + ", ".join(f"{name} {version(name)}" for name in names)


def pytest_addoption(parser):
    parser.addoption(
        "--quick", action="store_true", help="skip a test as soon as it starts a process, serves, or begins a run"
    )


def pytest_configure(config):
    if config.getoption("quick"):
        settings.load_profile("quick")
        config.pluginmanager.register(Quick())


class Quick:
    """Leaves out a test when it does what takes long. A new test need not say to which kind it belongs."""

    _EVENTS = frozenset({"subprocess.Popen", "os.posix_spawn", "os.fork", "socket.bind"})
    """Of sys.audit."""
    _WEIGHTS = ("expression.safetensors", "motivnet_tiny_7.safetensors")
    """A run hashes the file of its weights."""

    def __init__(self):
        self._is_in_test = False
        sys.addaudithook(self._hear)

    def _hear(self, event, arguments):
        if self._is_in_test and (
            event in self._EVENTS or (event == "open" and str(arguments[0]).endswith(self._WEIGHTS))
        ):
            pytest.skip("not quick: it starts a process, serves, or begins a run")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self):
        self._is_in_test = True
        try:
            return (yield)
        finally:
            self._is_in_test = False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """What a test logged may hold names that are no UTF-8; pytest-xdist cannot send them, and ends."""
    report = yield
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    return report


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            if os.environ.get("MOTIVNET_REQUIRE_GPU"):
                pytest.fail("MOTIVNET_REQUIRE_GPU is set and torch sees no CUDA device")
            pytest.skip("no CUDA device")


@pytest.fixture(autouse=True)
def signal_handlers_restored():
    """A command that runs in this process leaves its handlers behind, as it does in its own."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Pictures with a face each, and a few broken ones among them."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(NUM_PHOTOS):
        path = folder / f"{number:03d}.jpg"
        if number % 17 == 3:
            path.write_bytes(b"not a picture")
        else:
            face_photo(path, size=(320, 240), faces=((160, 120, 60 + number % 60),))
    return folder


@pytest.fixture(scope="session")
def undisturbed(photos, tmp_path_factory):
    """What one process that nothing disturbs writes of them."""
    out = tmp_path_factory.mktemp("undisturbed") / "p.parquet"
    finish(photos, out)
    return out


@pytest.fixture
def traps(tmp_path):
    """A folder that holds a file by the name of every module that is, or may be, imported; none of them may be run."""
    folder, sprung = tmp_path / "traps", tmp_path / "sprung"
    folder.mkdir()
    for name in {module.partition(".")[0] for module in sys.modules} | sys.stdlib_module_names:
        (folder / f"{name}.py").write_text(f"open({str(sprung)!r}, 'a').write(__name__ + ' ')\n")
    yield folder
    assert not sprung.exists(), sprung.read_text()


@pytest.fixture(scope="session")
def s3_server():
    """A real S3 server, for the whole session."""
    for library in ("moto", "boto3", "s3fs"):
        pytest.importorskip(library)
    from tests.s3_server import S3Server

    with S3Server() as server:
        yield server


@pytest.fixture
def s3(s3_server, monkeypatch):
    """The same, with the variables that lead to it in the environment of this process and its children."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def plain_figures(monkeypatch):
    """Figures with nothing on them, for a test that looks at everything else of a report: each takes 0.2 s to draw."""
    from motivnet_cli.report.figures import Drawing

    drawing = Drawing(b"\x89PNG", b'<svg xmlns="http://www.w3.org/2000/svg"/>')
    monkeypatch.setattr("motivnet_cli.report.figures._drawn", lambda draw, *, size: drawing)


@pytest.fixture(scope="module")
def browser(request):
    """Chromium without a window."""
    if request.config.getoption("quick"):
        pytest.skip("not quick: it starts a browser")  # playwright does not survive to be stopped while it starts
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"] if is_root else [])
        yield browser
        browser.close()
