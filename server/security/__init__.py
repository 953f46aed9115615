"""Passwords, tokens, sessions, cross-site checks and response headers."""
