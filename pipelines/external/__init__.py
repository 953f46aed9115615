"""Stage `external`: a labelled folder from outside the site, a public set mostly, into a cohort to evaluate on."""
