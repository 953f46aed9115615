"""Takes jobs, owns GPUs and supervises stage processes. Imports no torch."""
