"""Stage `deidentify`: an export in, a de-identified folder with its proof out."""
