"""The review pack: which instances a privacy officer looks at, before beside after, and what the verdicts prove."""
