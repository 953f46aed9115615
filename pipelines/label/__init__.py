"""Structured labels: from the site's table, from rules over report text, from a local language model; compared."""
