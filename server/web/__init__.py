"""The web UI: server-rendered pages on the same services that the REST API uses."""
