"""What code in the sandbox sees and can do: one kernel, asked many questions."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from autograde import sandbox
from autograde.kernel import Kernel, KernelStartError
from autograde.limits import Limits
from autograde.pod import close_pods, shared_pod
from autograde.rundir import RunDirectory
from autograde.withhold import build
from coursekit.exercises import exercise

REPOSITORY = Path(sandbox.__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("assets")
    (folder / "data").mkdir()
    (folder / "data" / "table.csv").write_text("1,2", encoding="utf-8")
    (folder / "other.ipynb").write_text("{}", encoding="utf-8")
    (folder / "link").symlink_to("/etc/passwd")
    return folder


@pytest.fixture(scope="module")
def pod(walls):
    """A warm process."""
    found = shared_pod(walls, modules=("numpy", "torch"))
    assert found is not None
    yield found
    close_pods()


@pytest.fixture(scope="module", params=["cold", "warm"])
def kernel(request, walls, assets):
    warm = request.getfixturevalue("pod") if request.param == "warm" else None
    run = RunDirectory(assets, warm.jobs if warm else None)
    memory = 1_200_000_000 if warm else 600_000_000
    limits = Limits(file_bytes=1_000_000, scratch_bytes=8_000_000, processes=60, memory_bytes=memory)
    with Kernel(run, walls, limits, pod=warm) as started:
        yield started
    run.close()


@pytest.fixture
def run():
    """A run directory without assets, removed at the end whatever happens."""
    directory = RunDirectory(None)
    yield directory
    directory.close()


@pytest.fixture
def ask(kernel):
    """Runs code and returns what it printed, or the name of its error."""

    def run(code: str) -> str:
        result = kernel.execute(code, 20)
        texts = [output.get("text", "") or output.get("ename", "") for output in result.outputs]
        return "".join(texts).strip()

    return run


@pytest.mark.parametrize(
    "path",
    [
        "/etc/shadow",
        "/etc/hostname",
        "/root/.ssh",
        "/home/root",
        str(REPOSITORY / "pyproject.toml"),
        str(REPOSITORY / "classroom"),
    ],
)
def test_files_of_the_host_are_not_there(ask, path):
    assert ask(f"import os; print(os.path.exists({path!r}))") == "False"


def test_the_repository_and_its_secrets_are_nowhere(ask):
    names = "('gradebook.db', 'nbgrader_config.py', 'converter.py', 'solutions', 'classroom')"
    code = f"""
import os
hits = []
for top, folders, files in os.walk("/"):
    folders[:] = [f for f in folders if os.path.join(top, f) not in ("/proc", "/usr", "/dev", "/sys")]
    if "site-packages" not in top and "/lib/python3" not in top:
        hits += [os.path.join(top, n) for n in folders + files if n in {names}]
print(hits)"""
    assert ask(code) == "[]"


def test_one_warm_process_serves_lessons_with_different_functions_withheld(walls, pod):
    """Each sees its own build and no other's, or another lesson's would have the answers."""
    withheld = {name: build([exercise(name)]) for name in ("quantize", "symmetric_scale")}
    code = """
import os, torch
from coursekit import fixtures, quantization as cq
print(os.listdir("/run/courses"), fixtures.make("networks.mlp", 0, 2, 1)[0].weight.shape[1])
for call in (lambda: cq.quantize(torch.ones(1), 1.0), lambda: cq.symmetric_scale(torch.ones(1))):
    try: print(call().__class__.__name__)
    except Exception as error: print(type(error).__name__)"""
    seen = {}
    for name, folder in withheld.items():
        run = RunDirectory(None, pod.jobs)
        with Kernel(run, walls, Limits(), pod=pod, course=folder) as kernel:
            result = kernel.execute(code, 20)
        run.close()
        seen[name] = "".join(output.text for output in result.outputs).split("\n")[:-1]
    assert seen == {
        "quantize": ["[] 2", "ReferenceWithheld", "float"],
        "symmetric_scale": ["[] 2", "Tensor", "ReferenceWithheld"],
    }


def test_the_working_folder_has_the_assets_and_can_be_written(ask):
    assert ask("import os; print(sorted(os.listdir('.')), open('data/table.csv').read())") == "['data'] 1,2"
    assert ask("open('mine.txt', 'w').write('x'); print(open('mine.txt').read())") == "x"


@pytest.mark.parametrize(
    "path", ["/usr/x", "/opt/course/coursekit/x.py", "/opt/python/x", "data/table.csv", "/etc/passwd"]
)
def test_what_is_not_hers_cannot_be_written(ask, path):
    assert ask(f"open({path!r}, 'w')") in ("OSError", "PermissionError")


def test_there_is_no_network(ask):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert (
            ask(f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)")
            == "ConnectionRefusedError"
        )
    assert ask("import socket; socket.create_connection(('1.1.1.1', 53), 2)") == "OSError"
    assert ask("print([name for _, name in socket.if_nameindex()])") == "['lo']"


def test_no_other_process_is_seen(ask):
    names = "{open(f'/proc/{p}/comm').read().strip() for p in os.listdir('/proc') if p.isdigit()}"
    assert set(ask(f"import os; print(' '.join(sorted({names})))").split()) <= {
        "bwrap",
        "python",
        "python3",
        "python3.11",
    }


def test_no_right_of_root_is_left(ask):
    code = "print([line.split()[1] for line in open('/proc/self/status') if line.startswith(('CapEff', 'CapPrm'))])"
    assert ask(code) == "['0000000000000000', '0000000000000000']"
    assert ask("import os; os.setuid(0)") in ("PermissionError", "OSError")  # where 0 is nobody: no such id
    assert ask("import os; print(os.getuid() != 0)") == "True"


def test_the_environment_is_bare(ask, monkeypatch):
    variables = set(ask("import os; print(' '.join(os.environ))").split())
    assert {"OMP_NUM_THREADS", "NBGRADER_EXECUTION", "PYTHONHASHSEED"} <= variables
    assert not variables & {"SSH_AUTH_SOCK", "VIRTUAL_ENV", "PYTEST_CURRENT_TEST", "OLDPWD", "LOGNAME_HOST"}
    assert ask("import os; print(os.environ['HOME'], os.uname().nodename)") == "/home/student grader"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("open('/tmp/big', 'wb').write(b'x' * 2_000_000)", "OSError"),
        ("[open(f'/tmp/{n}', 'wb').write(b'x' * 900_000) for n in range(20)]", "OSError"),
        ("b'x' * 2_000_000_000", "MemoryError"),
    ],
    ids=["file_size", "disk", "memory"],
)
def test_limits_end_in_an_ordinary_error(ask, code, error):
    assert ask(code) == error
    assert ask("import os; [os.remove(e.path) for e in os.scandir('/tmp') if e.is_file()]; print(1)") == "1"


def test_processes_are_limited(ask):
    code = """
import os, time
made = 0
try:
    for _ in range(500):
        if os.fork() == 0:
            time.sleep(1)
            os._exit(0)
        made += 1
except OSError:
    print(made < 60)
"""
    assert ask(code) == "True"


@pytest.mark.parametrize("library", ["matplotlib.pyplot", "torch", "sklearn"])
def test_libraries_import_without_a_word(walls, run, library):
    with Kernel(run, walls, Limits()) as kernel:
        result = kernel.execute(f"import {library}", 60)
    assert (result.status, result.outputs) == ("ok", [])


def test_modules_beside_the_notebook_never_replace_the_courses(ask):
    code = """
open("coursekit.py", "w").write("x = 'forged'")
open("helper.py", "w").write("x = 'hers'")
import helper, coursekit
print(helper.x, hasattr(coursekit, "x"))"""
    assert ask(code) == "hers False"


def test_numbers_are_drawn_from_the_seed(walls, run):
    drawn = []
    for seed in (7, 7, 8):
        with Kernel(run, walls, Limits(), seed) as kernel:
            result = kernel.execute("import random, numpy; print(random.random(), numpy.random.rand())", 20)
            drawn.append(result.outputs[0].text)
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("mode", sandbox._modes())
def test_every_way_to_shut_code_in_keeps_the_host_out(walls, run, mode):
    code = "import os; print(os.listdir('/home'), os.path.exists('/root/.ssh'), os.access('/etc/shadow', os.R_OK))"
    with Kernel(run, mode, Limits()) as kernel:
        result = kernel.execute(code, 20)
    assert result.outputs[0].text == "['student'] False False\n"


def test_nothing_is_left_on_the_host_after_a_run(walls, run):
    with Kernel(run, walls, Limits()) as kernel:
        pid = kernel.process.pid
    run.close()
    assert not run.path.exists()
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="whoever runs this is no root, and has seen all of the above")
def test_all_of_this_holds_for_an_ordinary_user_too(tmp_path):
    """The tests above once more, for a user id to whom this Python and this repository are shown wherever they lie."""
    uid = str(sandbox.nobody())
    os.chmod(tmp_path, 0o777)
    binds: list[str] = []
    for path in (sys.base_prefix, sys.prefix, REPOSITORY):
        place = str(Path(path).resolve())
        binds += [*sandbox._parents(place, {"/", "/root"}), "--ro-bind", place, place]
    walls = f"bwrap --dev-bind / / --tmpfs /root {' '.join(binds)} --bind {tmp_path} /mnt --"
    user = f"setpriv --reuid={uid} --regid={uid} --clear-groups --inh-caps=-all --"
    tests = f"{sys.executable} -m pytest -q -rs -p no:cacheprovider -p no:xdist --basetemp=/mnt/t {__file__}"
    command = [*f"{walls} {user} {tests}".split(), "-k", "not machine and not ordinary"]
    places = {
        "HOME": "/mnt",
        "TMPDIR": "/mnt",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLCONFIGDIR": "/mnt/matplotlib",
    }
    done = subprocess.run(
        command, cwd=REPOSITORY, env=os.environ | places, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " skipped" not in done.stdout, done.stdout


def test_a_machine_without_bubblewrap_is_told_how_to_get_it(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "bwrap" else name)
    sandbox.available.cache_clear()
    found = sandbox.available()
    sandbox.available.cache_clear()
    assert not found.ok
    assert "apt-get install bubblewrap" in str(found)


def test_a_machine_without_user_namespaces_is_told_how_to_allow_them(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(sandbox, "_probe", lambda mode: "setting up uid map: Permission denied")
    sandbox.available.cache_clear()
    found = sandbox.available()
    sandbox.available.cache_clear()
    assert not found.ok
    assert "Permission denied" in found.reason
    assert "AppArmor" in found.mend


def test_a_kernel_that_does_not_start_is_reported_as_such(monkeypatch, run):
    monkeypatch.setattr("autograde.pod.command", lambda *_: ["sh", "-c", "echo out of order >&2; exit 1"])
    with pytest.raises(KernelStartError, match="out of order"):
        Kernel(run, "none", Limits())
