"""Stage `scan`: what is in an export, as a partitioned inventory."""
