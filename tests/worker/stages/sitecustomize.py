"""Imported by every Python process of these tests, whose PYTHONPATH holds this folder: registers the test stages."""

from pipelines import contract

contract.STAGES |= {"counting": "counting", "picking": "picking"}
