"""What would be published: an sdist and a wheel, built, installed in a clean environment, and run."""

import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from botvision.version import __version__

pytest.importorskip("build")
ROOT = Path(__file__).parents[1]
SDIST, WHEEL = f"botvision-{__version__}.tar.gz", f"botvision-{__version__}-py3-none-any.whl"

pytestmark = pytest.mark.slow


def tracked() -> list[str]:
    """The files of the repository."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("needs the git repository")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The folder with both, built from a copy of the tracked files; the wheel is built from the sdist."""
    folder = tmp_path_factory.mktemp("release")
    for name in tracked():
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", folder / "source"]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "dist"


def test_the_sdist_has_every_file_of_the_repository(built):
    assert {file.name for file in built.iterdir()} == {SDIST, WHEEL}
    with tarfile.open(built / SDIST) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert set(tracked()) - inside <= {".gitignore"}
    assert {"LICENSE", "tests/test_release.py"} <= inside


def test_the_wheel_has_the_package_alone_and_says_its_licence(built):
    with zipfile.ZipFile(built / WHEEL) as archive:
        names = archive.namelist()
        metadata = message_from_bytes(archive.read(f"botvision-{__version__}.dist-info/METADATA"))
    about = f"botvision-{__version__}.dist-info/"
    source = {name.removeprefix("src/") for name in tracked() if name.startswith("src/")}
    assert {name for name in names if not name.startswith(about)} == source
    assert f"{about}licenses/LICENSE" in names
    assert (metadata["Version"], metadata["License-Expression"]) == (__version__, "Apache-2.0")
    assert metadata["Requires-Python"] == ">=3.11"


def test_the_version_is_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" not in project
    holding = [name for name in tracked() if name.endswith(".py") and f'"{__version__}"' in (ROOT / name).read_text()]
    assert holding == ["src/botvision/version.py"]


def test_the_wheel_runs_in_a_clean_environment(built, tmp_path):
    """Its packages are those of this environment, seen through a .pth file: nothing is downloaded."""
    venv.create(tmp_path / "clean", with_pip=False, symlinks=True)
    python = tmp_path / "clean" / "bin" / "python"
    purelib = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True
    ).stdout.strip()
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", built / WHEEL]
    subprocess.run(install, check=True, capture_output=True)
    own = [path for path in sys.path if path.endswith("site-packages")]
    Path(purelib, "packages_of_the_tests.pth").write_text("\n".join(own))

    def said(*words) -> str:
        done = subprocess.run([*words], cwd=tmp_path, env={}, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert said(python, "-m", "botvision", "--version") == __version__ + "\n"
    assert said(python.with_name("botvision"), "--version") == __version__ + "\n"
    assert said(python, "-c", "import botvision; print(botvision.__file__)").strip().startswith(purelib)
    assert "botnet50" in said(python, "-m", "botvision", "models", "botnet50")
