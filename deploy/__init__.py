"""Deployment: images, proxy, and the demonstration that `make demo` runs."""
