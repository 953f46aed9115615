"""The `intramural` command. Each file adds the commands of one concern; `main` is the entry point."""

from __future__ import annotations

import sys

import typer

from pipelines.contract import EXIT_CODES, BadInput, Outcome
from server.cli import labels, people, policy, privacy, reviewing, scaling, services, stages, vaults

app = typer.Typer(
    help="Continually pretrain chest x-ray encoders on your own PACS exports, within the walls.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (stages, scaling, labels, policy, reviewing, privacy, vaults, services, people):
    module.register(app)


def main() -> None:
    """Run the command line; errors of a person's making are one sentence and exit code 2."""
    try:
        app()
    except BadInput as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_CODES[Outcome.BAD_INPUT])
