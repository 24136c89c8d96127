"""Makes android-demo/pictures anew from the app's tests: .venv/bin/python tests/android/pictures.py [FOLDER of pictures that --pictures left]"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

REPOSITORY = Path(__file__).parents[2]
KEPT = REPOSITORY / "android-demo" / "pictures"
LOOKS = {"light": "Light", "dark": "Dark", "tablet": "Tablet", "large-text": "Large text"}
ACROSS = 4  # pictures in a row of the page


def taken(folder: Path):
    """Runs the tests that take pictures, which land in ``folder``."""
    parity = folder / "parity"
    subprocess.run([sys.executable, REPOSITORY / "tests" / "android" / "parity.py", parity], check=True)
    for only in ("StatesTest", "PicturesTest"):
        subprocess.run(
            [
                sys.executable,
                REPOSITORY / "scripts" / "build_apk",
                "--test",
                "app",
                "--only",
                only,
                "--parity",
                parity,
                "--pictures",
                folder,
            ],
            check=True,
        )


def keep(folder: Path):
    """Puts the pictures of ``folder`` beside the docs: a third of the size and few colours, the rare ones too, so that text stays sharp and the repository small."""
    for old in KEPT.glob("*.png"):
        old.unlink()
    for shot in sorted(folder.glob("*.png")):
        with Image.open(shot) as image:
            small = image.convert("RGB").resize((image.width // 3, image.height // 3), Image.Resampling.LANCZOS)
        few = small.quantize(128, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.putpalette(with_background(few, small))
        few.save(KEPT / shot.name, optimize=True)


def with_background(few: Image.Image, small: Image.Image) -> list[int]:
    """Returns the palette of ``few`` with the background as it is in ``small``: it would be the mean with colours near it."""
    palette, colours = few.getpalette(), small.getcolors(small.width * small.height)
    place = max(few.getcolors())[1]
    palette[3 * place : 3 * place + 3] = max(colours)[1]
    return palette


def page() -> str:
    """Returns a page with every picture that is kept, by look."""
    text = "# Every screen\n\nTaken by the app's tests, with a model that is only played, on a JVM: the times are no phone's.\n"
    text += "`.venv/bin/python tests/android/pictures.py` makes them anew.\n"
    names = sorted(file.stem for file in KEPT.glob("*.png"))
    for look, title in LOOKS.items():
        text += f"\n## {title}\n"
        found = [name for name in names if name.removesuffix("-end").endswith(f"-{look}")]
        for start in range(0, len(found), ACROSS):
            row = found[start : start + ACROSS]
            titles = [
                name.removesuffix("-end").removesuffix(f"-{look}").replace("-", " ") + (", further down" if name.endswith("-end") else "")
                for name in row
            ]
            text += f"\n| {' | '.join(titles)} |\n|{'---|' * len(row)}\n| {' | '.join(f'![{name}]({name}.png)' for name in row)} |\n"
    return text


def main():
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary)
        if len(sys.argv) < 2:
            taken(folder)
        keep(folder)
    (KEPT / "README.md").write_text(page(), encoding="utf-8")
    files = list(KEPT.glob("*.png"))
    print(f"{len(files)} pictures, {sum(file.stat().st_size for file in files) / 1e6:.1f} MB, in {KEPT.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    main()
