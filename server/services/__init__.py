"""What the control plane does, one file per resource, for the REST API, the pages and the command line alike.

Functions take the open session and the Caller, check states, note what they did in the audit log and return rows.
They never commit and never ask whether the caller may: routes do (`dependencies.allow`), references aside (`specs`).
"""
