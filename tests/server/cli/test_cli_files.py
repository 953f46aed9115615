"""A command imports its own file alone: the table that says which file has which must be right."""

import subprocess
import sys

import pytest
from typer.main import get_command

from server.cli import FILES, command_line


@pytest.mark.parametrize("file", FILES)
def test_the_table_names_what_a_file_adds(file):
    assert set(get_command(command_line([file])).commands) == set(FILES[file])


def test_a_command_about_pictures_starts_without_the_database_and_the_web():
    code = "import sys; sys.argv = ['intramural', 'deidentify', '--help']\nimport server.cli\n"
    code += "try: server.cli.main()\nexcept SystemExit: pass\n"
    code += "print(sorted({'fastapi', 'sqlalchemy', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: intramural deidentify" in done.stdout
    assert done.stdout.endswith("[]\n")
