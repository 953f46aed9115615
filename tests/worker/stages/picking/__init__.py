"""A stage whose units several workers share, for the tests of the worker."""
