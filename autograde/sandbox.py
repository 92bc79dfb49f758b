"""The walls around student code: a bubblewrap command line, resource limits and a clean environment.

Student code sees a read-only system, the Python environment, `coursekit`, copies of its assignment's assets and a
private home and /tmp that vanish with it. It sees no network, no other process, and nothing of the repository: no
lessons, solutions, submissions or gradebook.

What she sees of `coursekit` is the build that `autograde.withhold` makes, and of `autograde` only `inside`, the part
that runs her cells. Tests, references and known mistakes are not in the sandbox at all: the judge is outside.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autograde.limits import Limits

__all__ = ["Availability", "Mode", "Mount", "available", "command", "environment", "warm_command"]

Mode = Literal["user", "root", "none"]

HOME = "/home/student"
WORK = f"{HOME}/work"
COURSE = "/opt/course"
ENVIRONMENT = "/opt/python"
USER = ("--uid", "1000", "--gid", "1000")
INSTALL = "install it with `sudo apt-get install bubblewrap` (Debian, Ubuntu) or `sudo dnf install bubblewrap` (Fedora)"
USERNS = (
    "allow user namespaces: on Ubuntu 23.10 and later give bwrap an AppArmor profile "
    "(/etc/apparmor.d/bwrap with `userns,`) or run `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`; "
    "elsewhere `sudo sysctl user.max_user_namespaces=10000`"
)


@dataclass(frozen=True)
class Availability:
    """Whether student code can be shut in here, how (`mode`), and if not, why and what mends it."""

    ok: bool
    mode: Mode
    reason: str = ""
    mend: str = ""

    def __str__(self) -> str:
        return (
            f"sandbox ready ({self.mode})"
            if self.ok
            else f"no sandbox: {self.reason}. To mend it, {self.mend}."
        )


@dataclass(frozen=True)
class Mount:
    """A file or folder of this machine that appears in the sandbox; read-only unless `writable`."""

    source: Path
    target: str
    writable: bool = False


@functools.lru_cache(maxsize=1)
def available() -> Availability:
    """Whether bubblewrap works here, found by running Python in it once a process.

    Returns: an Availability. As root the student's code runs as a user id of its own (`mode` "root"); if that is not
        possible, and for everybody else, in a user namespace (`mode` "user").
    """
    if not sys.platform.startswith("linux"):
        reason = f"bubblewrap needs Linux, and this is {sys.platform}"
        return Availability(False, "none", reason, "grade in a Linux machine, a virtual one or WSL 2")
    missing = [name for name in ("bwrap", "prlimit", "setpriv") if shutil.which(name) is None]
    if missing:
        mend = INSTALL if "bwrap" in missing else "install util-linux"
        return Availability(False, "none", f"{missing[0]} is not on PATH", mend)
    errors = []
    for mode in _modes():
        error = _probe(mode)
        if error is None:
            return Availability(True, mode)
        errors.append(error)
    return Availability(False, "none", f"bwrap does not start ({errors[-1]})", USERNS)


def _modes() -> tuple[Mode, ...]:
    return ("root", "user") if os.geteuid() == 0 else ("user",)


def _probe(mode: Mode) -> str | None:
    """None if Python starts in the sandbox, or else what it said."""
    argv = command(mode, Limits(), [], ["-c", "import os; os.listdir('.')"])
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=30, check=False, env=environment(mode)
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no message"])[-1]


def command(mode: Mode, limits: Limits, mounts: Sequence[Mount], arguments: Sequence[str]) -> list[str]:
    """The command that runs Python with these arguments inside the walls.

    Args:    mode: "root" or "user" as `available` says; "none" runs it with no walls at all. mounts: what the run
             needs besides the system, the Python environment and the course's packages.
    Returns: an argument list for Popen.
    """
    if mode == "none":
        return [sys.executable, *arguments]
    inside = [_inside(Path(sys.executable)), *arguments]
    walls = [*_namespaces(mode), *_file_system(limits, mounts), "--", *_limited(mode, limits)]
    return [shutil.which("bwrap") or "bwrap", *walls, *inside]


def warm_command(mode: Mode, limits: Limits, mounts: Sequence[Mount], arguments: Sequence[str]) -> list[str]:
    """The command of a process inside the walls that forks others into narrower ones of their own.

    It runs no student code, and keeps the rights it needs to make namespaces and to change to a student's user id.
    Its children keep none of them (`autograde.inside.jail`).
    """
    kept = ["SYS_ADMIN", "NET_ADMIN", *(["SETUID", "SETGID", "KILL"] if mode == "root" else [])]
    # With `--disable-userns` bwrap would own the namespaces itself and we could make no others in them; a system call
    # filter keeps students from user namespaces instead.
    namespaces = [flag for flag in _namespaces(mode) if flag != "--disable-userns"]
    rights = [word for name in kept for word in ("--cap-add", f"CAP_{name}")]
    walls = [*namespaces, *rights, *_file_system(limits, mounts), "--"]
    return [shutil.which("bwrap") or "bwrap", *walls, _inside(Path(sys.executable)), *arguments]


def limited(limits: Limits) -> dict[str, int]:
    """Resource limits of one submission, by prlimit's names."""
    return {
        "nproc": limits.processes,
        "data": limits.memory_bytes,
        "fsize": limits.file_bytes,
        "cpu": int(limits.notebook_seconds + limits.start_seconds),
        "core": 0,
        "nofile": 1024,
        "memlock": 0,
    }


def nobody() -> int:
    """A user id that is nobody's, since processes are counted per user id."""
    return random.SystemRandom().randrange(200_000_000, 2_000_000_000)


def _namespaces(mode: Mode) -> list[str]:
    flags = [
        "--die-with-parent",
        "--new-session",
        "--hostname",
        "grader",
        "--chdir",
        WORK,
        "--cap-drop",
        "ALL",
    ]
    if mode == "user":
        return ["--unshare-all", "--unshare-user", "--disable-userns", *USER, *flags]
    apart = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    # Only these two survive, and only until setpriv has changed to the student's own user id.
    return [*apart, *flags, "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]


def _limited(mode: Mode, limits: Limits) -> list[str]:
    """What sets the limits, inside the namespaces so that processes are counted per submission."""
    argv = ["prlimit", *(f"--{name}={value}" for name, value in limited(limits).items()), "--"]
    if mode == "root":
        uid = nobody()
        argv += ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all", "--"]
    return argv


def _file_system(limits: Limits, mounts: Sequence[Mount]) -> list[str]:
    argv = ["--proc", "/proc", "--dev", "/dev", "--perms", "0755", "--dir", "/home"]
    for folder, size in (("/tmp", 1), ("/dev/shm", 4), (HOME, 1)):
        argv += ["--size", str(limits.scratch_bytes // size), "--perms", "1777", "--tmpfs", folder]
    argv += ["--perms", "1777", "--dir", WORK]
    made: set[str] = {"/", "/home", "/tmp", "/dev", "/proc", HOME, WORK}
    for mount in (*_system_mounts(), *_course_mounts(), *mounts):
        argv += _parents(mount.target, made)
        argv += ["--bind" if mount.writable else "--ro-bind", str(mount.source), mount.target]
    for folder in _hidden():
        argv += ["--size", "4096", "--perms", "0555", "--tmpfs", folder]
    for link in ("bin", "sbin", "lib", "lib32", "lib64"):
        if os.path.islink(f"/{link}"):
            argv += ["--symlink", os.readlink(f"/{link}"), f"/{link}"]
    return argv


def _hidden() -> Iterator[str]:
    """Our own packages where they are installed in the Python environment, with all that is withheld: covered."""
    for name in ("coursekit", "autograde"):
        spec = importlib.util.find_spec(name)
        folder = Path(spec.origin).resolve().parent if spec is not None and spec.origin else None
        for prefix, seen in (
            (sys.prefix, ENVIRONMENT),
            (sys.base_prefix, str(Path(sys.base_prefix).resolve())),
        ):
            if folder is not None and folder.is_relative_to(Path(prefix).resolve()):
                yield f"{seen}/{folder.relative_to(Path(prefix).resolve())}"
                break


def _parents(target: str, made: set[str]) -> Iterator[str]:
    """Options that make the folders above a mount readable; bwrap's own would be closed to another user id."""
    for parent in reversed(Path(target).parents):
        if str(parent) not in made and not str(parent).startswith("/usr/"):
            made.add(str(parent))
            yield from ("--perms", "1777" if target.startswith("/tmp/") else "0755", "--dir", str(parent))
    made.add(target)


def _system_mounts() -> Iterator[Mount]:
    folders = ["/usr", *(f"/{name}" for name in ("bin", "sbin", "lib", "lib32", "lib64"))]
    etc = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "fonts", "localtime", "mime.types")
    for path in (*folders, *(f"/etc/{name}" for name in etc), "/sys/devices/system/cpu"):
        if os.path.exists(path) and not (os.path.islink(path) and path in folders):
            yield Mount(Path(path), path)
    base = Path(sys.base_prefix).resolve()
    if not str(base).startswith("/usr"):
        yield Mount(base, str(base))
    if sys.prefix != sys.base_prefix:
        yield Mount(Path(sys.prefix), ENVIRONMENT)
    yield from _font_cache()


def _font_cache() -> Iterator[Mount]:
    """matplotlib's list of fonts, which takes it seconds to make anew."""
    cache = Path(os.environ.get("MPLCONFIGDIR") or Path.home() / ".cache" / "matplotlib")
    for path in sorted(cache.glob("fontlist-*.json")):
        yield Mount(path, f"/tmp/matplotlib/{path.name}")


def _inside(executable: Path) -> str:
    """Where this interpreter is found in the sandbox."""
    if sys.prefix == sys.base_prefix:
        return str(executable)
    return f"{ENVIRONMENT}/{executable.relative_to(sys.prefix)}"


def _course_mounts() -> Iterator[Mount]:
    package = Path(__file__).resolve().parent
    for name in ("__init__.py", "inside"):
        yield Mount(package / name, f"{COURSE}/autograde/{name}")
    data = os.environ.get("COURSEKIT_DATA")
    if data and os.path.isdir(data):
        yield Mount(Path(data).resolve(), "/opt/data")


def environment(mode: Mode, seed: int = 0) -> dict[str, str]:
    """All environment variables of a student's process; nothing of the caller's own is handed on.

    Args: seed: of Python's hashes, which are the same for all: a process that was started before cannot change its own.
    """
    threads = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "VECLIB_MAXIMUM", "TORCHINDUCTOR_COMPILE")
    variables = {f"{name}_NUM_THREADS": "1" for name in threads[:-1]} | {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
    variables |= {
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONUNBUFFERED": "1",
        "MPLBACKEND": "agg",
    }
    variables |= {"PYTHONHASHSEED": str(seed % 2**32), "NBGRADER_EXECUTION": "autograde", "USER": "student"}
    variables |= {"PYTHONDONTWRITEBYTECODE": "1", "LOGNAME": "student", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    variables |= {"PYTHONNOUSERSITE": "1", "GIT_CONFIG_NOSYSTEM": "1"}
    return variables | (_open_places() if mode == "none" else _walled_places())


def _walled_places() -> dict[str, str]:
    places = {
        "PATH": f"{ENVIRONMENT}/bin:/usr/bin:/bin",
        "HOME": HOME,
        "PYTHONPATH": COURSE,
        "TMPDIR": "/tmp",
    }
    places |= {"MPLCONFIGDIR": "/tmp/matplotlib", "IPYTHONDIR": "/tmp/ipython", "TORCH_HOME": "/tmp/torch"}
    return places | ({"COURSEKIT_DATA": "/opt/data"} if os.environ.get("COURSEKIT_DATA") else {})


def _open_places() -> dict[str, str]:
    kept = ("PATH", "HOME", "SYSTEMROOT", "TMPDIR", "TEMP", "COURSEKIT_DATA", "MPLCONFIGDIR")
    root = str(Path(__file__).resolve().parents[1])
    return {name: os.environ[name] for name in kept if name in os.environ} | {"PYTHONPATH": root}
