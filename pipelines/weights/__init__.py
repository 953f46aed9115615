"""Stage `import`: bring open weights in, verified, from a local path (never downloaded)."""
