"""scripts/unicode_tables.py: the app's tables are those of the installed tokenizers."""

import subprocess
import sys

import pytest
from building import REPOSITORY


@pytest.mark.slow
def test_the_tables_are_what_the_installed_library_gives():
    done = subprocess.run(
        [sys.executable, REPOSITORY / "scripts" / "unicode_tables.py", "--check"], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0 and "UnicodeTables.kt: is what" in done.stdout, done.stdout + done.stderr + "run scripts/unicode_tables.py"
