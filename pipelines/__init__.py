"""The science: stages that know no web, no database and no queue. Start at `pipelines.contract`."""

__version__ = "0.1.0"
