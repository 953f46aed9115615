"""Stage `build`: released de-identified folders in, a cohort out."""
