"""The QAIRT SDK that ExecuTorch's Qualcomm backend needs: which one the wheel was built against, and whether the user has it.

The wheel holds the backend and no Qualcomm library. It hands structures to the libraries whose layout changes between
releases: with the 2.50 libraries that LiteRT's compiler wants it fails when it makes the device ("unknown custom config
socModel 0"). So another version than its own is refused, and nothing is ever downloaded: the backend does that by itself
where ``QNN_SDK_ROOT`` is not set, which is why it is always set before the backend is called.
"""

import ctypes
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from firsttoken.backends.tflite_hexagon.libraries import SDK_FOLDER, SDK_VARIABLES, check_platform, read_version
from firsttoken.errors import FirstTokenError

BACKEND = "executorch.backends.qualcomm"
ADAPTOR = "PyQnnManagerAdaptor*.so"
NAMED_VERSION = re.compile(r'QNN_VERSION\s*=.*?"(\d+\.\d+\.\d+\.\d+)"')
NEEDED = ("libQnnHtp.so", "libQnnSystem.so")
# In the order in which they need each other; the C++ runtime lies beside them where ExecuTorch's installer put it there.
LOADED = ("libunwind*.so*", "libc++abi*.so*", "libc++-*.so*", "libc++.so*", "libQnnHtp.so")


@dataclass(frozen=True)
class Sdk:
    """An unpacked SDK of the version that the wheel was built against; ``origin`` says which variable named it."""

    folder: Path
    version: str
    origin: str

    @property
    def libraries(self) -> Path:
        return self.folder / SDK_FOLDER

    @contextmanager
    def loaded(self) -> Iterator[None]:
        """Within it, the backend finds this SDK, whatever ``LD_LIBRARY_PATH`` was when the process started.

        Raises `FirstTokenError` for libraries that do not load.
        """
        before = os.environ.get("QNN_SDK_ROOT")
        os.environ["QNN_SDK_ROOT"] = str(self.folder)
        try:
            for path in (path for pattern in LOADED for path in sorted(self.libraries.glob(pattern))):
                try:  # the backend asks for them by their bare names, which finds what is loaded already
                    ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
                except OSError as error:
                    raise FirstTokenError(
                        f"{path}: does not load ({error}); install what the SDK asks for (bin/check-linux-dependency.sh in it; libc++ and libc++abi on most systems)"
                    ) from None
            yield
        finally:
            if before is None:
                os.environ.pop("QNN_SDK_ROOT", None)
            else:
                os.environ["QNN_SDK_ROOT"] = before


def find_sdk() -> Sdk:
    """Returns the user's SDK. Raises `FirstTokenError` that says what was found, which version is needed, and what to do."""
    check_platform()
    wanted = built_against()
    how = (
        f"get Qualcomm AI Runtime SDK {wanted} from Qualcomm's Software Center (its licence is yours to accept), unpack it "
        f"and set QNN_SDK_ROOT to its folder qairt/{wanted}"
    )
    variable = next((name for name in SDK_VARIABLES if os.environ.get(name)), None)
    if variable is None:
        raise FirstTokenError(
            f"ExecuTorch's Qualcomm backend needs SDK {_minor(wanted)}, and neither {' nor '.join(SDK_VARIABLES)} is set; {how}; "
            "or use a target tflite-hexagon-*, which needs no SDK"
        )
    folder, origin = Path(os.environ[variable]), f"{variable}={os.environ[variable]}"
    missing = [name for name in NEEDED if not (folder / SDK_FOLDER / name).is_file()]
    if missing:
        raise FirstTokenError(f"{origin}: has no {SDK_FOLDER / missing[0]}, so it is not the folder of an unpacked SDK; {how}")
    found = read_version(folder / SDK_FOLDER / "libQnnHtp.so")
    if _minor(found) != _minor(wanted):
        raise FirstTokenError(
            f"{origin} is QNN {found}, but ExecuTorch {_executorch()} was built against {wanted}, and another one fails when it makes the device; {how}"
        )
    return Sdk(folder, found, origin)


def check_tools() -> None:
    """Raises `FirstTokenError` if this machine cannot compile for Hexagon through ExecuTorch; says what to install."""
    find_sdk()


def built_against() -> str:
    """Returns the SDK version that the installed ExecuTorch was built against, "2.37.0.250724", as its own downloader names it.

    Read, not imported: importing it sets up logging and a network client. Raises `FirstTokenError` for a wheel without
    the backend.
    """
    spec = find_spec("executorch")
    places = [Path(place) / "backends" / "qualcomm" for place in (spec.submodule_search_locations or ())] if spec else []
    folder = next((place for place in places if any(place.glob(f"python/{ADAPTOR}"))), None)
    if folder is None:
        raise FirstTokenError(
            f"ExecuTorch {_executorch()} has no Qualcomm backend here ({BACKEND} lacks {ADAPTOR}); its wheel for Linux on x86_64 has: pip install 'executorch==1.5.1'"
        )
    # The build puts the version into a shell file in some releases and into the downloader itself in others.
    for name in ("scripts/qnn_config.sh", "scripts/download_qnn_sdk.py"):
        path = folder / name
        if path.is_file() and (
            named := re.search(r"QNN_VERSION=\"?(\d+\.\d+\.\d+\.\d+)", text := path.read_text()) or NAMED_VERSION.search(text)
        ):
            return named[1]
    raise FirstTokenError(
        f"ExecuTorch {_executorch()} does not say which Qualcomm SDK it was built against; expected QNN_VERSION in {folder / 'scripts'}"
    )


def _executorch() -> str:
    try:
        return version("executorch")
    except PackageNotFoundError:
        return "(not installed)"


def _minor(full: str) -> str:
    return ".".join(full.split(".")[:2])
