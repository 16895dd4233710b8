"""What the tests share: the bundled model and pictures, and the program."""

import os
import pathlib
import shutil
import signal
import subprocess

# Nothing is measured while tests run, so that they take the same kernels every time.
os.environ.setdefault("TIPI_TUNE", "off")

# A shell starts what runs in the background deaf to Ctrl-C, which some tests press.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest

import tipi

ROOT = pathlib.Path(__file__).resolve().parents[3]
PICTURES = ROOT / "examples/pictos/shifted"
TEMPLATE = "an icon of {}"
# How the quick fits of the tests see pictures.
QUICK = {"key_views": 0, "grid": "standard"}


@pytest.fixture(scope="session")
def model():
    return tipi.Model(ROOT / "weights/picto")


@pytest.fixture(scope="session")
def classes():
    """Paths by class, six of each."""
    names = sorted(folder.name for folder in PICTURES.iterdir() if folder.is_dir() and folder.name != "bell")
    return {name: sorted((PICTURES / name).glob("*.png"))[:6] for name in ["bell", *names[:3]]}


@pytest.fixture(scope="session")
def folder(classes, tmp_path_factory):
    """The same in a folder of their own."""
    root = tmp_path_factory.mktemp("pictures")
    for name, of_class in classes.items():
        (root / name).mkdir()
        for path in of_class:
            shutil.copy(path, root / name)
    return root


@pytest.fixture(scope="session")
def paths(classes):
    return [path for of_class in classes.values() for path in of_class]


@pytest.fixture(scope="session")
def adapter(model, classes):
    few = {name: of_class[:2] for name, of_class in classes.items()}
    rest = {name: of_class[2:4] for name, of_class in classes.items()}
    return model.fit(few, validation=rest, templates=TEMPLATE, how=QUICK)


@pytest.fixture(scope="session")
def program():
    """Runs the program, and gives what it prints."""
    path = pathlib.Path(os.environ.get("TIPI_PROGRAM", ROOT / "target/debug/tipi"))
    if not path.exists():
        pytest.skip(f"there is no program {path}: build it with `cargo build`")

    def run(*arguments):
        ended = subprocess.run([path, *map(str, arguments)], cwd=ROOT, capture_output=True, check=False)
        assert ended.returncode == 0, ended.stderr.decode()
        return ended.stdout.decode()

    return run
