"""The command line: `coursekit doctor [NOTEBOOK]`, `coursekit start ASSIGNMENT`, `coursekit compress MODEL`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[1]


def _doctor(args: argparse.Namespace) -> int:
    if args.notebook is not None:
        return _doctor_notebook(args)
    from coursekit.doctor import examine, exit_code, table

    findings = examine(instructor=not args.student)
    print(table(findings))
    return exit_code(findings)


def _doctor_notebook(args: argparse.Namespace) -> int:
    """0 if there is nothing (left) to mend, 1 if there is or the notebook cannot be read."""
    from coursekit.checkup import examine_notebook, mend_notebook, told
    from coursekit.workbook import WorkbookError

    try:
        checkup = examine_notebook(args.notebook, args.release)
        print("\n".join(told(checkup)))
        if not checkup.mendable:
            return 1 if checkup.findings else 0
        if not args.mend and not _agreed("Mend it? [y/N] "):
            print(f"Nothing was changed. To mend it: coursekit doctor {args.notebook} --mend")
            return 1
        kept = mend_notebook(checkup)
    except WorkbookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"mended: {checkup.target}; the file before is {kept.name}. Open it and look before you hand it in."
    )
    return 1 if len(checkup.mendable) < len(checkup.findings) else 0


def _agreed(question: str) -> bool:
    """Whether the person at the keyboard says yes; False if there is none."""
    return sys.stdin.isatty() and input(question).strip().lower() in ("y", "yes")


def _start(args: argparse.Namespace) -> int:
    from coursekit.workbook import WorkbookError, start

    try:
        report = start(args.assignment, args.release, args.work)
    except WorkbookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for line in report.done:
        print(line)
    for problem in report.problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if report.problems else 0


def _compress(args: argparse.Namespace) -> int:
    from coursekit.pipeline.command import run  # torch is slow to import and the other commands need none

    return run(args)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command `coursekit`."""
    parser = argparse.ArgumentParser(prog="coursekit", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    doctor = commands.add_parser(
        "doctor", help="say what this machine has and lacks, or what would trip grading in your notebook"
    )
    doctor.add_argument(
        "notebook", nargs="?", type=Path, metavar="NOTEBOOK", help="a copy of a lesson to look at"
    )
    doctor.add_argument(
        "--mend", action="store_true", help="mend the notebook; the file before is kept as .bak"
    )
    doctor.add_argument(
        "--release", type=Path, help="the released notebook, or a folder of them, to compare with"
    )
    doctor.add_argument(
        "--student", action="store_true", help="leave out what only grading and the tests need"
    )
    doctor.set_defaults(run=_doctor)

    start = commands.add_parser(
        "start", help="get your copy of an assignment, or merge its new release into yours"
    )
    start.add_argument("assignment", metavar="ASSIGNMENT", help="for example week1-quantization")
    start.add_argument(
        "--release", type=Path, default=ROOT / "notebooks", help="folder of the released notebooks"
    )
    start.add_argument("--work", type=Path, default=ROOT / "my-work", help="folder your copy goes to")
    start.set_defaults(run=_start)

    compress = commands.add_parser("compress", help="make a network's file fit a budget of bytes or time")
    compress.add_argument(
        "model", metavar="MODEL", help="a network of the zoo, or a file: ours or safetensors"
    )
    compress.add_argument("--budget", metavar="BYTES", help="the file's size at most: 200KB, 64KiB, …")
    compress.add_argument(
        "--latency", type=float, metavar="RATIO", help="time of a call at most, as a share: 0.6"
    )
    compress.add_argument("--points", type=float, help="points of accuracy that may be lost at most: 2")
    compress.add_argument(
        "--output", type=Path, metavar="FILE", help="where the network goes, with a .png beside it"
    )
    compress.add_argument("--json", action="store_true", help="print the report as JSON")
    compress.add_argument(
        "--train-images", type=int, default=20_000, metavar="N", help="for short trainings; 0 for none"
    )
    compress.add_argument(
        "--held-out", type=int, default=2_000, metavar="N", help="training images that choose"
    )
    compress.add_argument("--epochs", type=int, default=1, help="of each short training")
    compress.set_defaults(run=_compress)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, or 1 after an error that names its mend."""
    args = make_parser().parse_args(arguments)
    return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
