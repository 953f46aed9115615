"""Stage `evaluate`: models x tasks on one cohort's test split, with intervals."""
