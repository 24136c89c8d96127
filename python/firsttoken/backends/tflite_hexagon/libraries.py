"""Qualcomm's host libraries: where they are, which version, and whether LiteRT's compiler can use them.

They are Qualcomm's and under its licence; nothing here downloads or copies them. Two places are looked at: a QAIRT (QNN)
SDK that the user installed, named by ``QNN_SDK_ROOT`` or ``QAIRT_SDK_ROOT``, and the PyPI package ``onnxruntime-qnn``,
which the extra ``firsttoken[hexagon]`` brings.
"""

import os
import platform
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from firsttoken.errors import FirstTokenError
from firsttoken.extras import install_command

SDK_VARIABLES = ("QNN_SDK_ROOT", "QAIRT_SDK_ROOT")
SDK_FOLDER = Path("lib") / "x86_64-linux-clang"
PACKAGE, PACKAGE_VERSION = "onnxruntime-qnn", "2.6.0"
INSTALL = install_command("hexagon")
# What the compiler plugin of ai-edge-litert 2.3 was built with. A context binary of another release may not load with the
# runtime libraries that LiteRT 2.3 ships to phones, so another minor version is refused and not only warned about.
PLUGIN_QNN = (2, 50)
# What the plugin links to. Lpai is the low-power audio NPU's backend: linked, never called, and not in the package.
NEEDED = ("libQnnHtp.so", "libQnnSystem.so", "libQnnIr.so", "libQnnSaver.so")
STAND_IN, STANDS_IN_FOR = "libQnnSaver.so", "libQnnLpai.so"
PREPARE = "libHtpPrepare.so", "libQnnHtpPrepare.so"  # the package's name for it, the SDK's
BUILD_ID = re.compile(rb"v(2\.\d{1,3}\.\d{1,3})\.\d{6,}")


@dataclass(frozen=True)
class HostLibraries:
    """``folders`` hold the shared libraries; ``version`` is QNN's, "2.50.40"; ``origin`` says where they come from."""

    folders: tuple[Path, ...]
    version: str
    origin: str

    @property
    def htp_backend(self) -> Path:
        """The library that compiles for, and on x86 emulates, the Hexagon Tensor Processor."""
        return self.folders[0] / "libQnnHtp.so"

    @property
    def fits(self) -> bool:
        return tuple(map(int, self.version.split(".")[:2])) == PLUGIN_QNN

    @contextmanager
    def linked(self) -> Iterator[Path]:
        """Yields a temporary folder with links to all libraries, as ``LD_LIBRARY_PATH`` wants them."""
        with tempfile.TemporaryDirectory(prefix="firsttoken-qnn-") as folder:
            for source in self.folders:
                for library in source.glob("lib*.so*"):
                    (Path(folder) / library.name).symlink_to(library)
            if not (Path(folder) / STANDS_IN_FOR).exists():
                (Path(folder) / STANDS_IN_FOR).symlink_to(self.folders[0] / STAND_IN)
            yield Path(folder)


def find_libraries() -> HostLibraries:
    """Returns the user's SDK where one is named, else the package's libraries.

    Raises `FirstTokenError` if there are none, if they lack a part, or if LiteRT's compiler was not built for their version.
    """
    check_platform()
    libraries = from_sdk() or from_package()
    if libraries is None:
        raise FirstTokenError(
            f"Qualcomm's host libraries are not installed; run: {INSTALL} (95 MB, from PyPI), or set QNN_SDK_ROOT to a QAIRT {_dotted(PLUGIN_QNN)} SDK"
        )
    if not libraries.fits:
        raise FirstTokenError(
            f"{libraries.origin} has QNN {libraries.version}, but LiteRT's compiler was built for {_dotted(PLUGIN_QNN)}; "
            f"{'unset that variable and run' if libraries.origin.startswith(SDK_VARIABLES) else 'run'}: pip install '{PACKAGE}=={PACKAGE_VERSION}', "
            f"or set QNN_SDK_ROOT to a QAIRT {_dotted(PLUGIN_QNN)} SDK"
        )
    return libraries


def check_platform() -> None:
    """Raises `FirstTokenError` on a machine for which neither Qualcomm nor LiteRT has a compiler."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise FirstTokenError(
            f"compiling for Hexagon needs Linux on x86_64, this is {platform.system()} on {platform.machine()}; export there and copy the bundle"
        )


def from_sdk() -> HostLibraries | None:
    """Returns the libraries of the SDK that the environment names, or None. Raises `FirstTokenError` if it is not one."""
    variable = next((name for name in SDK_VARIABLES if os.environ.get(name)), None)
    if variable is None:
        return None
    folder = Path(os.environ[variable]) / SDK_FOLDER
    if not folder.is_dir():
        raise FirstTokenError(f"{variable}={os.environ[variable]}: has no {SDK_FOLDER}; expected the folder of an unpacked QAIRT SDK")
    return _checked((folder,), f"{variable}={os.environ[variable]}")


def from_package() -> HostLibraries | None:
    """Returns the libraries of the installed package, or None. Its C++ runtime lies in a folder beside it."""
    spec = find_spec("onnxruntime_qnn")
    if spec is None or not spec.origin:
        return None
    folder = Path(spec.origin).parent
    beside = folder.with_name(f"{folder.name}.libs")
    return _checked((folder, beside) if beside.is_dir() else (folder,), f"package {PACKAGE}")


def _checked(folders: tuple[Path, ...], origin: str) -> HostLibraries:
    missing = [name for name in NEEDED if not (folders[0] / name).is_file()]
    if not any((folders[0] / name).is_file() for name in PREPARE):
        missing.append(PREPARE[0])
    if missing:
        raise FirstTokenError(f"{origin}: {', '.join(missing)} missing in {folders[0]}; install it again, or: {INSTALL}")
    return HostLibraries(folders, read_version(folders[0] / STAND_IN), origin)


def read_version(library: Path) -> str:
    """Returns the QNN version that a library was built as, "2.50.40". Raises `FirstTokenError` if it names none."""
    found = BUILD_ID.search(library.read_bytes())
    if found is None:
        raise FirstTokenError(f"{library}: does not say which QNN it belongs to; install it again, or: {INSTALL}")
    return found[1].decode()


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
