"""Namespaces, mounts, limits and system calls: what a forked job puts between itself and everything else.

Linux only, through libc: there is no maintained binding for this on PyPI, and it is eight system calls.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import resource
import socket
import struct
from collections.abc import Mapping
from typing import Any

__all__ = [
    "adopt_orphans",
    "drop_rights",
    "end_with_parent",
    "forbid_calls",
    "fork_apart",
    "limit",
    "mount_apart",
]

NEWNS, NEWIPC, NEWPID, NEWNET, NEWUTS = 0x20000, 0x08000000, 0x20000000, 0x40000000, 0x04000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = (
    38,
    4,
    22,
    1,
    36,
)
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: Any) -> int:
    result: int = getattr(_libc, name)(*arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def adopt_orphans() -> None:
    """Makes this process the parent of what its children leave behind; see `fork_apart`."""
    _call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def fork_apart() -> int:
    """Forks; the child is the first process of a pid namespace of its own, so that its end is the end of all in it.

    A process in between makes the namespace, for who has made one for its children cannot always come back.

    Returns: as os.fork, for a process that has called `adopt_orphans`.
    Raises:  OSError where namespaces cannot be nested.
    """
    told, tell = os.pipe()
    between = os.fork()
    if between == 0:
        os.close(told)
        try:
            _call("unshare", NEWPID)
            pid = os.fork()
        except OSError as error:
            os.write(tell, struct.pack("i", -(error.errno or errno.EPERM)))
            os._exit(1)
        if pid == 0:
            os.close(tell)
            os.setsid()  # or a signal to its process group would reach us
            return 0
        os.write(tell, struct.pack("i", pid))
        os._exit(0)
    os.close(tell)
    try:
        said = os.read(told, 4)
    finally:
        os.close(told)
        os.waitpid(between, 0)
    pid = struct.unpack("i", said)[0] if len(said) == 4 else -errno.EPERM
    if pid < 0:
        raise OSError(-pid, f"a pid namespace: {os.strerror(-pid)}")
    return pid


def mount_apart(
    job: str | None, jobs: str, home: str, work: str, scratch_bytes: int, shown: Mapping[str, str]
) -> None:
    """Gives the calling process its own mounts, IPC objects, network and /proc, and moves it to the working folder.

    Args: job: the folder whose entries appear, read-only, in the working folder. jobs: the folder of all jobs, which
          disappears. shown: folders by the place at which they appear, read-only; what they lie in disappears.
    """
    _call("unshare", NEWNS | NEWIPC | NEWNET | NEWUTS)
    _call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    sources = (
        {os.path.join(work, entry): os.path.join(job, entry) for entry in sorted(os.listdir(job))}
        if job
        else {}
    )
    opened = {place: os.open(path, os.O_PATH | os.O_NOFOLLOW) for place, path in {**sources, **shown}.items()}
    for folder, size in ((home, scratch_bytes), ("/tmp", scratch_bytes), ("/dev/shm", scratch_bytes // 4)):
        _tmpfs(folder, f"size={size},mode=1777")
    for folder in {jobs, *(os.path.dirname(os.path.dirname(path)) for path in shown.values())}:
        _tmpfs(folder, "size=4096,mode=0555")
    os.mkdir(work, 0o1777)
    os.chmod(work, 0o1777)
    for target, descriptor in opened.items():
        source = f"/proc/self/fd/{descriptor}"
        if os.path.isdir(source):
            os.makedirs(target, exist_ok=True)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
        _call("mount", source.encode(), os.fsencode(target), None, MS_BIND, None)
        flags = MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV
        _call("mount", None, os.fsencode(target), None, flags, None)
        os.close(descriptor)
    _call("mount", b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, None)
    os.chdir(work)
    _loopback_up()


def _tmpfs(folder: str, options: str) -> None:
    _call("mount", b"tmpfs", folder.encode(), b"tmpfs", MS_NOSUID | MS_NODEV, options.encode())


def _loopback_up() -> None:
    """The new network has one interface, which leads nowhere but back."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14s", b"lo", 1 | 64, b"")  # IFF_UP | IFF_RUNNING
        fcntl.ioctl(any_socket, 0x8914, request)  # SIOCSIFFLAGS


def end_with_parent() -> None:
    """Has the kernel kill this process when the one that started it is gone, however that ended."""
    if platform.system() == "Linux":
        _call("prctl", PR_SET_PDEATHSIG, 9, 0, 0, 0)


def limit(limits: Mapping[str, int]) -> None:
    """Sets resource limits by their short names, as prlimit does."""
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (value, value))


def drop_rights(uid: int | None) -> None:
    """Becomes that user id, if one is given, with no capabilities left and no way to get any."""
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = struct.pack("Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
    _call("capset", header, bytes(24))
    _call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)  # /proc/self is its own again


# System calls that no exercise needs and that the kernel's worst holes were found in.
_DENIED = {
    "x86_64": (0xC000003E, 56, 435, (101, 155, 161, 165, 166, 175, 246, 248, 249, 250, 272, 298, 303, 304, 308, 310,
               311, 313, 320, 321, 323, 425, 426, 427, 428, 429, 430, 431, 432, 442)),
    "aarch64": (0xC00000B7, 220, 435, (117, 41, 51, 40, 39, 105, 104, 217, 218, 219, 97, 241, 264, 265, 268, 270, 271,
                273, 280, 282, 425, 426, 427, 428, 429, 430, 431, 432, 442)),
}  # fmt: skip
_NEW_FLAGS = 0x7E020080  # CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET and TIME


def forbid_calls() -> bool:
    """Installs a system call filter: no namespaces, mounts, tracing, keys, BPF, io_uring or modules.

    Returns: whether this machine's processor is one the filter knows.
    """
    if platform.machine() not in _DENIED:
        return False
    arch, clone, clone3, denied = _DENIED[platform.machine()]
    allow, deny, missing = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
    load, equal, any_bit, ret = 0x20, 0x15, 0x45, 0x06
    n = len(denied)
    program = [
        (load, 0, 0, 4), (equal, 1, 0, arch), (ret, 0, 0, 0x80000000),  # another architecture: kill
        (load, 0, 0, 0), (equal, n + 6, 0, clone3), (equal, 0, 3, clone),
        (load, 0, 0, 16), (any_bit, n + 2, 0, _NEW_FLAGS), (ret, 0, 0, allow),
        *((equal, n - i, 0, number) for i, number in enumerate(denied)),
        (ret, 0, 0, allow), (ret, 0, 0, deny), (ret, 0, 0, missing),
    ]  # fmt: skip
    code = b"".join(struct.pack("HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code)

    class Program(ctypes.Structure):
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    wanted = Program(len(program), ctypes.addressof(buffer))
    _call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("prctl", PR_SET_SECCOMP, 2, ctypes.byref(wanted), 0, 0)
    return True
