"""The process in which a model's program runs; started by `sandbox`, imports nothing of firsttoken.

It sets resource limits, hides files (landlock(7), Linux 5.13), sets a seccomp filter (seccomp(2); the filter is classic BPF
over ``struct seccomp_data``), and only then takes the program. System calls that reach the network, change files,
start programs, touch other processes or get around the filter fail with EPERM; opening a file to write, or one that is none of
Python's own, fails with EACCES.
"""

import ctypes
import errno
import json
import os
import platform
import resource
import struct
import sys

NO_SANDBOX = 97
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
LOAD, EQUALS, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

# name -> number on x86-64 and on 64-bit ARM (None: does not exist there)
CALLS = {
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "accept": (43, 202), "accept4": (288, 242),
    "sendto": (44, 206), "sendmsg": (46, 211), "sendmmsg": (307, 269),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "pidfd_send_signal": (424, 424),
    "creat": (85, None), "openat2": (437, 437), "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276),
    "unlink": (87, None), "unlinkat": (263, 35), "rmdir": (84, None), "mkdir": (83, None), "mkdirat": (258, 34), "link": (86, None), "linkat": (265, 37),
    "symlink": (88, None), "symlinkat": (266, 36), "mknod": (133, None), "mknodat": (259, 33), "truncate": (76, 45), "ftruncate": (77, 46),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None), "fchown": (93, 55), "lchown": (94, None),
    "fchownat": (260, 54), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "open_by_handle_at": (304, 265), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97), "setns": (308, 268),
    "bpf": (321, 280), "keyctl": (250, 219), "add_key": (248, 217), "init_module": (175, 105), "finit_module": (313, 273), "kexec_load": (246, 104), "reboot": (169, 142),
    "setrlimit": (160, 164), "prlimit64": (302, 261), "memfd_create": (319, 279), "userfaultfd": (323, 282), "perf_event_open": (298, 241),
    "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
}  # fmt: skip
OPEN, OPENAT, CLONE, CLONE3 = (2, None), (257, 56), (56, 220), 435
CLONE_THREAD = 0x00010000
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # landlock's, on every architecture
VERSION, BENEATH = 1, 1  # LANDLOCK_CREATE_RULESET_VERSION, LANDLOCK_RULE_PATH_BENEATH
HANDLED = (1 << 13) - 1  # every right over files that the first version knows
READ_FILE, READ_FOLDER = 1 << 2, 1 << 3
SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache", "/etc/localtime")
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")


def filter_program(column: int, architecture: int) -> bytes:
    """The BPF program: one 8-byte instruction after another."""
    code = [(LOAD, 0, 0, ARCHITECTURE_AT), (EQUALS, 1, 0, architecture), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER_AT)]
    if column == 0:
        code += [(AT_LEAST, 0, 1, 0x40000000), (RETURN, 0, 0, KILL)]  # the x32 calls have other numbers
    # its arguments lie in memory, which a filter cannot read: the C library then starts threads with clone
    code += [(EQUALS, 0, 1, CLONE3), (RETURN, 0, 0, ERRNO | errno.ENOSYS)]
    for numbers in CALLS.values():
        if (number := numbers[column]) is not None:
            code += [(EQUALS, 0, 1, number), (RETURN, 0, 0, ERRNO | errno.EPERM)]
    for numbers, argument in ((OPEN, 1), (OPENAT, 2)):
        if (number := numbers[column]) is not None:
            # reads of the flags' low half; both processors are little-endian
            code += [
                (EQUALS, 0, 3, number),
                (LOAD, 0, 0, ARGUMENTS_AT + 8 * argument),
                (ANY_BIT, 0, 1, WRITING),
                (RETURN, 0, 0, ERRNO | errno.EACCES),
            ]
            code += [(LOAD, 0, 0, NUMBER_AT)]
    code += [(EQUALS, 0, 3, CLONE[column]), (LOAD, 0, 0, ARGUMENTS_AT), (ANY_BIT, 1, 0, CLONE_THREAD), (RETURN, 0, 0, ERRNO | errno.EPERM)]
    return b"".join(struct.pack("<HBBI", *step) for step in [*code, (RETURN, 0, 0, ALLOW)])


def landlock_version() -> int:
    """The kernel's version of landlock; 0 where it has none."""
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform != "linux" or not hasattr(library, "syscall"):
        return 0
    return max(0, library.syscall(ctypes.c_long(CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint32(VERSION)))


def readable() -> list[str]:
    """What a program may read: Python's standard library, the system's shared libraries, its own folder and process."""
    python = [os.path.join(sys.base_prefix, "lib"), os.path.dirname(os.__file__)]
    return [path for path in (*python, *SYSTEM, *DEVICES, os.getcwd(), f"/proc/{os.getpid()}") if os.path.exists(path)]


def hide_files(library: ctypes.CDLL) -> None:
    """Leaves `readable` for reading, and no other file. Raises OSError where the kernel cannot."""

    def call(number: int, *arguments: object) -> int:
        result = library.syscall(ctypes.c_long(number), *arguments)
        if result < 0:
            raise OSError(ctypes.get_errno(), f"landlock: {os.strerror(ctypes.get_errno())}")
        return result

    handled = struct.pack("<Q", HANDLED)
    rules = call(CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), ctypes.c_uint32(0))
    for path in readable():
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        allowed = READ_FILE | (READ_FOLDER if os.path.isdir(path) else 0)
        call(ADD_RULE, ctypes.c_int(rules), ctypes.c_int(BENEATH), struct.pack("<Qi", allowed, place), ctypes.c_uint32(0))
        os.close(place)
    call(RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint32(0))
    os.close(rules)


def limit(seconds: float, memory: int, hide: bool) -> None:
    """Takes rights away from this process, for good. Raises OSError where the system cannot."""
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, int(seconds) + 1),
        (resource.RLIMIT_FSIZE, 64 << 20),  # its own output
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    if sys.platform != "linux" or platform.machine() not in ARCHITECTURES or sys.byteorder != "little":
        raise OSError(f"{sys.platform} on {platform.machine()} is not known")
    column, architecture = ARCHITECTURES[platform.machine()]
    program = filter_program(column, architecture)
    steps = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_void_p)]

    library = ctypes.CDLL(None, use_errno=True)
    library.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong]
    given = Program(len(program) // 8, ctypes.cast(steps, ctypes.c_void_p))
    if library.prctl(PR_SET_NO_NEW_PRIVS, 1, None, 0, 0):
        raise OSError(ctypes.get_errno(), f"no_new_privs: {os.strerror(ctypes.get_errno())}")
    if hide:
        hide_files(library)
    if library.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(given), 0, 0):
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")


def main() -> None:
    told = int(sys.argv[1])
    request = json.loads(sys.stdin.buffer.read())
    try:
        limit(request["seconds"], request["memory"], request["hide"])
    except (OSError, ValueError) as error:
        print(error)
        sys.stdout.flush()
        os._exit(NO_SANDBOX)
    program, secret = request["program"], request["secret"]
    del request
    exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
    os.write(told, secret.encode())


if __name__ == "__main__":
    main()
