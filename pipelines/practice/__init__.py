"""Stage `practice`: a synthetic PACS export with planted identities and an answer key."""
