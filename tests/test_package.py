"""What an installation holds that is no copy of this folder: every package and every file that is read."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout, so there is no list of files")
    source = tmp_path / "source"  # a build leaves its work beside the sources
    files = [name for name in listed.stdout.split() if (ROOT / name).is_file()]
    for name in files:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", str(source)]
    subprocess.run(command, cwd=tmp_path, check=True)
    [wheel] = tmp_path.glob("*.whl")
    wanted = {name for name in files if name.startswith("factory/")}
    wanted |= {f"factory/{name}" for name in files if name.startswith("model_cards/")}
    assert wanted - set(zipfile.ZipFile(wheel).namelist()) == set()
