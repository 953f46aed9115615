"""A stage that counts, for the tests of the worker."""
