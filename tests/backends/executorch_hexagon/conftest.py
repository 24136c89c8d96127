"""The ExecuTorch route to Hexagon without Qualcomm's compiler: everything up to it is ExecuTorch's own and runs."""

from types import SimpleNamespace
from typing import ClassVar

import pytest

from firsttoken.backends.executorch_hexagon import sdk
from firsttoken.backends.tflite_hexagon.libraries import SDK_FOLDER, SDK_VARIABLES


def made_sdk(folder, version: str, missing: str = ""):
    """A folder like an unpacked SDK's, whose libraries only say their version."""
    (folder / SDK_FOLDER).mkdir(parents=True)
    for name in sdk.NEEDED:
        if name != missing:
            (folder / SDK_FOLDER / name).write_bytes(b"\x7fELF\0\0v" + version.encode() + b".250724120000\0")
    return folder


@pytest.fixture
def make_sdk():
    return made_sdk


class CompilerInItsPlace:
    """Stands where Qualcomm's library would answer: whether it takes an operator, and the context that it writes."""

    refuses: frozenset[str] = frozenset()
    graphs: ClassVar[dict[str, list]] = {}

    def __init__(self, options: bytes):
        self.options = options

    def InitBackend(self):
        return SimpleNamespace(value=0)

    def IsNodeSupportedByBackend(self, operators):
        return not any(name in operator.GetOpType() for operator in operators for name in self.refuses)

    def IsTensorDump(self):
        return False

    def InitContext(self, names):
        pass

    def DestroyContext(self):
        pass

    def Destroy(self):
        pass

    def Compile(self, names, operators):
        type(self).graphs = dict(zip(names, operators, strict=True))
        return b"a QNN context"


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """The stand-in for the compiler, with an SDK folder of the right version."""
    from executorch.backends.qualcomm.utils import qnn_manager_lifecycle

    class StandIn(CompilerInItsPlace):
        pass

    with pytest.MonkeyPatch.context() as patch:
        for name in SDK_VARIABLES:
            patch.delenv(name, raising=False)
        patch.setenv("QNN_SDK_ROOT", str(made_sdk(tmp_path_factory.mktemp("qairt") / "sdk", sdk.built_against().rpartition(".")[0])))
        patch.setattr(sdk, "LOADED", ())
        patch.setattr(qnn_manager_lifecycle, "PyQnnManager", SimpleNamespace(QnnManager=StandIn))
        yield StandIn


@pytest.fixture(scope="module")
def short_target(tmp_path_factory):
    """The built-in target with one short prefill length and a short cache."""
    from firsttoken.declarations import declaration_folder

    text = (declaration_folder("export") / "executorch-hexagon-sm8550.toml").read_text()
    path = tmp_path_factory.mktemp("target") / "short.toml"
    path.write_text(
        text.replace("[32, 128]", "[8]")
        .replace("cache_length = 1280", "cache_length = 48")
        .replace("prefill_chunk = 1024", "prefill_chunk = 16")
    )
    return path
