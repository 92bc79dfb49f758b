"""The instructor's command line, `python -m autograde COMMAND`; --help lists the commands."""

from __future__ import annotations

import argparse
import importlib
import sys

from autograde.layout import CourseError

# Each has a function add_parser(subparsers) that sets `run`, a function of the parsed arguments that returns
# the exit code.
MODULES = (
    "autograde.build",
    "autograde.bundle",
    "autograde.demo",
    "autograde.grade",
    "autograde.regrade",
    "autograde.verify",
    "autograde.report",
    "autograde.similar",
    "autograde.lms",
)


def make_parser() -> argparse.ArgumentParser:
    """The parser with the subcommands of all modules there are."""
    parser = argparse.ArgumentParser(prog="python -m autograde", description=__doc__)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            continue
        module.add_parser(subparsers)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs one subcommand; the exit code is its own, or 1 after an error a person has to mend."""
    args = make_parser().parse_args(arguments)
    try:
        return args.run(args) or 0
    except CourseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; what was finished is kept, run the same command again to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
