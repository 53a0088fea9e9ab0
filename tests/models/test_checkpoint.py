"""A model folder as other programs and people find it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from factory.models import checkpoint


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o007, 0o660)])
def test_saved_weights_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    file = tmp_path / "deep" / "model.safetensors"
    file.parent.mkdir()
    before = os.umask(umask)
    try:
        save_file({"weight": torch.ones(2)}, file)
        checkpoint.follow_umask(tmp_path)
        assert os.umask(umask) == umask, "the umask itself stays"
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == mode
