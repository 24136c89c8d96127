"""How what belongs to modules is read: programs, samples, plans and manifests."""

import zipfile
from pathlib import Path

PROGRAMS = ("firsttoken.modules.archive", "firsttoken.modules.describe", "torch._export.serde.serialize")


def read_program(path: Path) -> None:
    """A .pt2, and a graph's JSON put into one."""
    from firsttoken.modules.archive import MODEL, open_program
    from firsttoken.modules.describe import describe_program
    from firsttoken.plain_file import read_bytes

    if path.suffix == ".pt2":
        describe_program(open_program(path), "m")
        return
    try:
        graph = read_bytes(path)
    except OSError:
        return  # a graph is no file of its own
    packed = path.with_name("packed.pt2")
    with zipfile.ZipFile(path.with_name("good.pt2")) as good, zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name in good.namelist():
            archive.writestr(name, graph if name.endswith(MODEL) else good.read(name))
    describe_program(open_program(packed), "m")


def read_arrays(path: Path) -> None:
    from firsttoken.modules.samples import read_samples

    read_samples(path)


def read_module_bundle(path: Path) -> None:
    from firsttoken.bundle.module_manifest import read_module_manifest

    place = path.with_name("bundle")
    place.mkdir(exist_ok=True)
    (place / "manifest.json").unlink(missing_ok=True)
    (place / "manifest.json").symlink_to(path)
    read_module_manifest(place)


def read_module_plan(path: Path) -> None:
    from firsttoken.modules.layers import ModuleLayer
    from firsttoken.quant.module_plan import POSSIBLE, load_module_plan

    load_module_plan(path).resolve([ModuleLayer(kind, kind, (kind,), (kind,)) for kind in POSSIBLE], "t", POSSIBLE)
