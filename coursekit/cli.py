"""The student's command line: `coursekit doctor` and `coursekit start ASSIGNMENT`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[1]


def _doctor(args: argparse.Namespace) -> int:
    from coursekit.doctor import examine, exit_code, table

    findings = examine(instructor=not args.student)
    print(table(findings))
    return exit_code(findings)


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


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command `coursekit`."""
    parser = argparse.ArgumentParser(prog="coursekit", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    doctor = commands.add_parser("doctor", help="say what this machine has and lacks")
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
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, or 1 after an error that names its mend."""
    args = make_parser().parse_args(arguments)
    return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
