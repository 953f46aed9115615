"""Stage `scale`: runs at nested sizes, their evaluations, the fitted law and the break-even N."""
