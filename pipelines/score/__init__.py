"""Stage `score`: leaks and losses of a de-identified folder against an answer key."""
