"""Errors that a user can fix, and what they cost to import."""

import subprocess
import sys

from botvision.errors import nearest


def test_the_nearest_words_are_named_or_all_of_them():
    known = ["botnet50", "botnet101", "resnet50", "senet_s1"]
    assert "botnet50" in nearest("bottnet50", known) and "senet_s1" not in nearest("bottnet50", known)
    assert all(word in nearest("transformer", known) for word in known)


def test_errors_are_there_without_importing_pytorch():
    code = "import sys, botvision.errors, botvision.files, botvision.configuration; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
