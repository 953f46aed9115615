"""`python -m server.cli`: the `intramural` command without an installed entry point."""

from server.cli import main

main()
