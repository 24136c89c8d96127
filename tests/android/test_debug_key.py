"""scripts/android/debug_key.py: the same key everywhere, and one that other programs take."""

import hashlib
import shutil
import subprocess
import sys

import pytest
from building import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))

from android.debug_key import written

# Another certificate is another app for Android: whoever has the old one must remove it, with its bundles and measurements.
CERTIFICATE = "03553341b8b39ae7afad53f2ff23b0306bd29827144bae5b3fd5d56a311b8633"


def test_it_never_changes(tmp_path):
    key, certificate = written(tmp_path / "one")
    assert hashlib.sha256(certificate.read_bytes()).hexdigest() == CERTIFICATE
    again = written(tmp_path / "two")
    assert [path.read_bytes() for path in again] == [key.read_bytes(), certificate.read_bytes()]


def test_openssl_takes_it(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, certificate = written(tmp_path)

    def run(*command) -> str:
        return subprocess.run(["openssl", *map(str, command)], capture_output=True, text=True, check=True).stdout

    run("pkcs8", "-inform", "DER", "-nocrypt", "-in", key, "-out", tmp_path / "key.pem")
    run("x509", "-inform", "DER", "-in", certificate, "-out", tmp_path / "certificate.pem")
    assert "RSA key ok" in run("rsa", "-in", tmp_path / "key.pem", "-check", "-noout")
    run("verify", "-CAfile", tmp_path / "certificate.pem", tmp_path / "certificate.pem")  # it checks its own signature
    modulus = [run(kind, "-in", tmp_path / f"{name}.pem", "-noout", "-modulus") for kind, name in (("rsa", "key"), ("x509", "certificate"))]
    assert modulus[0] == modulus[1] != ""
