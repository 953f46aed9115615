"""The `intramural` command. Each file adds the commands of one concern; `main` is the entry point."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module

import typer

from pipelines.contract import EXIT_CODES, BadInput, Outcome

# Which file adds which commands, in the order of the help. Importing all takes two seconds, most of them for the
# database and the web; a command imports its own file alone.
FILES = {
    "stages": ("practice", "deidentify", "score", "build", "external", "pretrain", "evaluate", "similarity"),
    "weights": ("weights",),
    "scaling": ("scale",),
    "labels": ("label",),
    "policy": ("policy",),
    "reviewing": ("review",),
    "privacy": ("quarantine", "audit"),
    "vaults": ("reidentify", "vault", "secret"),
    "services": ("up", "server", "worker", "migrate"),
    "people": ("user", "token"),
}


def command_line(files: Iterable[str] = FILES) -> typer.Typer:
    """The commands of some files."""
    app = typer.Typer(
        help="Continually pretrain chest x-ray encoders on your own PACS exports, within the walls.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(lambda: None)  # else a file's only command would be the whole command line
    for file in files:
        import_module(f"server.cli.{file}").register(app)
    return app


def main() -> None:
    """Run the command line; errors of a person's making are one sentence and exit code 2."""
    first = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    files = [file for file, commands in FILES.items() if first in commands]
    try:
        command_line(files or FILES)()
    except BadInput as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_CODES[Outcome.BAD_INPUT])
