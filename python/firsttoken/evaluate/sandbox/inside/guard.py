"""Taking rights away from this process, for good: what a program that a model wrote may still do is listed here.

Three walls, each of which holds alone for most of it: a filter that allows the system calls below and no other (seccomp(2);
classic BPF over ``struct seccomp_data``), landlock(7) for files, abstract sockets and signals, and resource limits. Standard
library only; firsttoken cannot be imported inside.
"""

import ctypes
import errno
import json
import os
import platform
import resource
import socket
import struct
import sys
from collections.abc import Callable

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
LOAD, EQUALS, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

# name -> number on x86-64 and on 64-bit ARM (None: does not exist there)
ALLOWED = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67), "lseek": (8, 62),
    "stat": (4, None), "fstat": (5, 80), "lstat": (6, None), "newfstatat": (262, 79), "statx": (332, 291), "access": (21, None), "faccessat": (269, 48),
    "faccessat2": (439, 439), "readlink": (89, None), "readlinkat": (267, 78), "getdents64": (217, 61), "getcwd": (79, 17), "fstatfs": (138, 44),
    "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24), "pipe": (22, None), "pipe2": (293, 59),
    "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72), "eventfd2": (290, 19),
    "epoll_create": (213, None), "epoll_create1": (291, 20), "epoll_ctl": (233, 21), "epoll_wait": (232, None), "epoll_pwait": (281, 22),
    "recvfrom": (45, 207), "shutdown": (48, 210), "getsockopt": (55, 209), "getsockname": (51, 204),
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "mremap": (25, 216), "brk": (12, 214), "madvise": (28, 233), "mincore": (27, 232),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "rt_sigpending": (127, 136), "rt_sigtimedwait": (128, 137),
    "sigaltstack": (131, 132), "pause": (34, None), "alarm": (37, None), "setitimer": (38, 103), "getitimer": (36, 102),
    "futex": (202, 98), "set_robust_list": (273, 99), "set_tid_address": (218, 96), "rseq": (334, 293), "arch_prctl": (158, None), "membarrier": (324, 283),
    "sched_yield": (24, 124), "sched_getaffinity": (204, 123), "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153), "getrusage": (98, 165), "getrlimit": (97, 163),
    "getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178), "getpgrp": (111, None), "getpgid": (121, 155), "getsid": (124, 156),
    "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177), "getgroups": (115, 158), "getresuid": (118, 148), "getresgid": (120, 150),
    "uname": (63, 160), "sysinfo": (99, 179), "getrandom": (318, 278), "getcpu": (309, 168), "restart_syscall": (219, 128),
    "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip
# Their arguments lie in memory, which a filter cannot read; without them the C library takes the older calls.
ABSENT = {"clone3": (435, 435), "openat2": (437, 437)}
OPEN, OPENAT, CLONE, SOCKETPAIR, SENDTO = (2, None), (257, 56), (56, 220), (53, 199), (44, 206)
FCNTL, IOCTL, KILL_CALL, TGKILL, PRLIMIT = (72, 25), (16, 29), (62, 129), (234, 131), (302, 261)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, PARENT_SETTID, CHILD_CLEARTID, DETACHED: what the C libraries start threads with
THREAD_MUST, THREAD_MAY = 0x00010F00, 0x007D0F00
F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC, O_ASYNC = 0, 1, 2, 3, 4, 1030, 0o20000
TERMINAL_OR_FLAGS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # landlock's, on every architecture
VERSION, BENEATH = 1, 1  # LANDLOCK_CREATE_RULESET_VERSION, LANDLOCK_RULE_PATH_BENEATH
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many there are, by version; from 6 on as in 5
NETWORK_SINCE, SCOPES_SINCE = 4, 6
NETWORK, SCOPES = 0b11, 0b11  # bind and connect of TCP; abstract sockets and signals
READ_FILE, READ_FOLDER = 1 << 2, 1 << 3
SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache", "/etc/localtime")
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
MOST_WRITTEN = 64 << 20  # bytes of its own output


def low(argument: int) -> tuple[int, int, int, int]:
    """Loads the low half of an argument; both processors are little-endian."""
    return LOAD, 0, 0, ARGUMENTS_AT + 8 * argument


def filter_program(column: int, architecture: int, own: int) -> bytes:
    """The BPF program for the process ``own``: one 8-byte instruction after another. What it does not name fails with EPERM."""
    code = [(LOAD, 0, 0, ARCHITECTURE_AT), (EQUALS, 1, 0, architecture), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER_AT)]
    if column == 0:
        code += [(AT_LEAST, 0, 1, 0x40000000), (RETURN, 0, 0, KILL)]  # the x32 calls have other numbers
    allow, refuse = (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ERRNO | errno.EPERM)

    def where(numbers: tuple[int | None, int | None], *checks: tuple[int, int, int, int]) -> None:
        """For one call: ``checks``, of which the last returns."""
        number = numbers[column]
        if number is not None:
            code.extend([(EQUALS, 0, len(checks), number), *checks])

    for numbers in ALLOWED.values():
        where(numbers, allow)
    for numbers in ABSENT.values():
        where(numbers, (RETURN, 0, 0, ERRNO | errno.ENOSYS))
    for numbers, flags in ((OPEN, 1), (OPENAT, 2)):
        where(numbers, low(flags), (ANY_BIT, 0, 1, WRITING), (RETURN, 0, 0, ERRNO | errno.EACCES), allow)
    where(CLONE, low(0), (ANY_BIT, 3, 0, ~THREAD_MAY & 0xFFFFFFFF), (0x54, 0, 0, THREAD_MUST), (EQUALS, 0, 1, THREAD_MUST), allow, refuse)
    # a stream between its own two ends, which asyncio wakes itself by; to no address
    where(SOCKETPAIR, low(0), (EQUALS, 0, 4, socket.AF_UNIX), low(1), (0x54, 0, 0, 0xF), (EQUALS, 0, 1, socket.SOCK_STREAM), allow, refuse)
    where(SENDTO, low(4), (EQUALS, 0, 3, 0), (LOAD, 0, 0, ARGUMENTS_AT + 36), (EQUALS, 0, 1, 0), allow, refuse)
    for numbers in (KILL_CALL, TGKILL):
        where(numbers, low(0), (EQUALS, 0, 1, own), allow, refuse)
    where(
        PRLIMIT, low(0), (EQUALS, 0, 5, 0), low(2), (EQUALS, 0, 3, 0), (LOAD, 0, 0, ARGUMENTS_AT + 20), (EQUALS, 0, 1, 0), allow, refuse
    )  # reads its own
    commands = [(EQUALS, 0, 1, c) for c in (F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC)]
    where(FCNTL, low(1), *(step for c in commands for step in (c, allow)), (EQUALS, 0, 3, F_SETFL), low(2), (ANY_BIT, 1, 0, O_ASYNC), allow, refuse)  # fmt: skip
    where(IOCTL, low(1), *(step for c in TERMINAL_OR_FLAGS for step in ((EQUALS, 0, 1, c), allow)), (RETURN, 0, 0, ERRNO | errno.ENOTTY))
    code.append(refuse)
    return b"".join(struct.pack("<HBBI", *step) for step in code)


def landlock_version() -> int:
    """The kernel's version of landlock; 0 where it has none."""
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform != "linux" or not hasattr(library, "syscall"):
        return 0
    return max(0, library.syscall(ctypes.c_long(CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint32(VERSION)))


def readable(more: list[str]) -> list[str]:
    """What a program may read: Python's standard library, the system's shared libraries, its own folder and process, and ``more``."""
    python = [os.path.join(sys.base_prefix, "lib"), os.path.dirname(os.__file__)]
    return [path for path in (*python, *SYSTEM, *DEVICES, os.getcwd(), f"/proc/{os.getpid()}", *more) if os.path.exists(path)]


def use_landlock(library: ctypes.CDLL, version: int, more: list[str]) -> None:
    """Leaves `readable` for reading, and no other file; no TCP, and from version 6 on no signal or abstract socket that leads out.

    Raises OSError where the kernel cannot.
    """

    def call(number: int, *arguments: object) -> int:
        result = library.syscall(ctypes.c_long(number), *arguments)
        if result < 0:
            raise OSError(ctypes.get_errno(), f"landlock: {os.strerror(ctypes.get_errno())}")
        return result

    handled = struct.pack("<Q", (1 << FILE_RIGHTS.get(version, FILE_RIGHTS[max(FILE_RIGHTS)])) - 1)
    if version >= NETWORK_SINCE:
        handled += struct.pack("<Q", NETWORK)
    if version >= SCOPES_SINCE:
        handled += struct.pack("<Q", SCOPES)
    rules = call(CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), ctypes.c_uint32(0))
    for path in readable(more):
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        allowed = READ_FILE | (READ_FOLDER if os.path.isdir(path) else 0)
        call(ADD_RULE, ctypes.c_int(rules), ctypes.c_int(BENEATH), struct.pack("<Qi", allowed, place), ctypes.c_uint32(0))
        os.close(place)
    call(RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint32(0))
    os.close(rules)


def enter(source: int, install: Callable[[list[str]], None]) -> dict:
    """Reads the request from the file ``source``, lets numpy be found by ``install``, and guards this process. Says why where that cannot be, and ends."""
    with os.fdopen(source, "rb") as file:
        request = json.loads(file.read())
    install(request["numpy"])
    try:
        limit(request["seconds"], request["memory"], request["landlock"], request["numpy"])
    except (OSError, ValueError) as error:
        print(error, flush=True)
        os._exit(request["no_sandbox"])
    return request


def limit(seconds: float, memory: int, version: int, more: list[str]) -> None:
    """Takes the rights away. ``version`` is landlock's, 0 for none; ``more`` are folders it may read besides its own.

    Raises OSError where the system cannot.
    """
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, int(seconds) + 1),
        (resource.RLIMIT_FSIZE, MOST_WRITTEN),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    if sys.platform != "linux" or platform.machine() not in ARCHITECTURES or sys.byteorder != "little":
        raise OSError(f"{sys.platform} on {platform.machine()} is not known")
    column, architecture = ARCHITECTURES[platform.machine()]
    program = filter_program(column, architecture, os.getpid())
    steps = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_void_p)]

    library = ctypes.CDLL(None, use_errno=True)
    library.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong]
    given = Program(len(program) // 8, ctypes.cast(steps, ctypes.c_void_p))
    if library.prctl(PR_SET_NO_NEW_PRIVS, 1, None, 0, 0):
        raise OSError(ctypes.get_errno(), f"no_new_privs: {os.strerror(ctypes.get_errno())}")
    if version:
        use_landlock(library, version, more)
    if library.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(given), 0, 0):
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")
