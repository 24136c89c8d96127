"""Stand-ins for Android's system libraries: what they pass on, what is bionic's own, and what is said of the rest."""

import os
import subprocess
import sys

import pytest
from building import REPOSITORY, need

sys.path.insert(0, str(REPOSITORY / "scripts"))

from android.failure import BuildError
from android.natives.elf import read_library
from android.natives.machines import this_machine
from android.natives.packages import from_aars, from_apk
from android.natives.stand_ins import make

SOURCE = """
extern unsigned long strlen(const char *); extern int *__errno(void); extern long sysconf(int); extern int sem_init(void *, int, unsigned);
extern int pthread_mutex_lock(void *), pthread_mutex_unlock(void *);
static int recursive[10] = {1 << 14};
int passed_on(void) { *__errno() = 7; return (int)strlen("four!") + *__errno(); }
int page(void) { return (int)sysconf(40); }
int twice(void) { return pthread_mutex_lock(recursive) + pthread_mutex_lock(recursive) + pthread_mutex_unlock(recursive) + pthread_mutex_unlock(recursive); }
int semaphore(void) { char of[16]; return sem_init(of, 0, 1); }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A library that is linked against a libc.so as Android's are, which is not there."""
    need("gcc", "readelf")
    if os.uname().machine != "x86_64":
        pytest.skip("made for an x86_64 machine")
    folder = tmp_path_factory.mktemp("library")
    names = ("strlen", "__errno", "sysconf", "sem_init", "pthread_mutex_lock", "pthread_mutex_unlock")
    (folder / "empty.c").write_text("".join(f"void {name}(void) {{}}\n" for name in names))
    (folder / "libc.map").write_text("LIBC { global: *; };\n")
    (folder / "phone.c").write_text(SOURCE)
    for command in (
        "gcc -shared -nostdlib -fPIC -w -fno-builtin -Wl,--version-script=libc.map -Wl,-soname,libc.so -o libc.so empty.c",
        "gcc -shared -nostdlib -fPIC -w -Wl,--no-as-needed -o libphone.so phone.c -L. -l:libc.so",
    ):
        subprocess.run(command.split(), cwd=folder, check=True)
    (folder / "libc.so").unlink()
    return folder / "libphone.so"


def call(function: str, library, stood) -> subprocess.CompletedProcess:
    program = f"import ctypes; print(ctypes.CDLL({str(library)!r}).{function}())"
    environment = this_machine().environment(stood.folder, stood.preloaded)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=60)


def test_its_functions_run_or_are_named(library, tmp_path):
    assert read_library(library).needed == ("libc.so",)
    stood = make([library], this_machine(), tmp_path / "system")
    assert stood.missing == ("sem_init",), "glibc has it, but twice as large"
    assert call("passed_on", library, stood).stdout == "12\n"
    assert call("page", library, stood).stdout == f"{os.sysconf('SC_PAGESIZE')}\n"
    assert call("twice", library, stood).stdout == "0\n"
    died = call("semaphore", library, stood)
    assert died.returncode < 0 and "the library called sem_init of Android's system, which has no stand-in here" in died.stderr


def test_what_is_no_library_or_package(library, tmp_path):
    for name in ("text.so", "litert-2.3.0.aar"):
        (tmp_path / name).write_text("text")
    with pytest.raises(BuildError, match=r"text\.so: not a native library"):
        read_library(tmp_path / "text.so")
    with pytest.raises(BuildError, match=r"litert-2\.3\.0\.aar: not an APK or AAR"):
        from_aars([tmp_path / "litert-2.3.0.aar"], "x86_64", tmp_path / "out")
    with pytest.raises(BuildError, match=r"gone\.apk: not an APK or AAR \(No such file"):
        from_apk(tmp_path / "gone.apk", "x86_64", tmp_path / "out", {})


def test_the_command_says_what_is_missing(tmp_path):
    command = [sys.executable, str(REPOSITORY / "scripts" / "android_natives"), "--apk", str(tmp_path / "no.apk")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr == "" and "no.apk: not a file; run scripts/build_apk first" in done.stdout
