"""Who may do what. The only place that says so; what is not granted here is denied."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from server.errors import Forbidden


class Role(StrEnum):
    ADMIN = "admin"
    PRIVACY_OFFICER = "privacy_officer"
    RESEARCHER = "researcher"
    AUDITOR = "auditor"


class Permission(StrEnum):
    """What a route needs. Every route declares exactly one; a route without one stops the server from starting."""

    PUBLIC = "public"
    SIGNED_IN = "signed_in"
    SITE_READ = "site:read"
    SITE_CREATE = "site:create"
    EXPORT_READ = "export:read"
    EXPORT_REGISTER = "export:register"
    EXPORT_DEIDENTIFY = "export:deidentify"
    EXPORT_REVIEW = "export:review"
    QUARANTINE_READ = "quarantine:read"
    LABEL_READ = "label:read"
    LABEL_CREATE = "label:create"
    COHORT_READ = "cohort:read"
    COHORT_BUILD = "cohort:build"
    RUN_READ = "run:read"
    RUN_CREATE = "run:create"
    MODEL_READ = "model:read"
    MODEL_IMPORT = "model:import"
    MODEL_PROMOTE = "model:promote"
    EVALUATION_READ = "evaluation:read"
    EVALUATION_CREATE = "evaluation:create"
    SIMILARITY_READ = "similarity:read"
    """Whole de-identified images are seen with this one."""
    SIMILARITY_CREATE = "similarity:create"
    STUDY_READ = "study:read"
    STUDY_CREATE = "study:create"
    JOB_READ = "job:read"
    JOB_CONTROL = "job:control"
    USER_MANAGE = "user:manage"
    AUDIT_READ = "audit:read"
    METRICS_READ = "metrics:read"


P = Permission
_READ = {
    P.SITE_READ,
    P.EXPORT_READ,
    P.LABEL_READ,
    P.COHORT_READ,
    P.RUN_READ,
    P.MODEL_READ,
    P.EVALUATION_READ,
    P.STUDY_READ,
    P.JOB_READ,
}
# A privacy officer signs but builds nothing, a researcher builds but signs nothing, an administrator sees to the house.
GRANTS: dict[Role, frozenset[Permission]] = {
    Role.ADMIN: frozenset(
        _READ
        | {
            P.SITE_CREATE,
            P.EXPORT_REGISTER,
            P.EXPORT_DEIDENTIFY,
            P.QUARANTINE_READ,
            P.MODEL_IMPORT,
            P.JOB_CONTROL,
            P.USER_MANAGE,
            P.AUDIT_READ,
            P.METRICS_READ,
        }
    ),
    Role.PRIVACY_OFFICER: frozenset(
        _READ
        | {
            P.EXPORT_REGISTER,
            P.EXPORT_DEIDENTIFY,
            P.EXPORT_REVIEW,
            P.QUARANTINE_READ,
            P.SIMILARITY_READ,
            P.JOB_CONTROL,
            P.AUDIT_READ,
        }
    ),
    Role.RESEARCHER: frozenset(
        _READ
        | {
            P.LABEL_CREATE,
            P.COHORT_BUILD,
            P.RUN_CREATE,
            P.MODEL_IMPORT,
            P.MODEL_PROMOTE,
            P.EVALUATION_CREATE,
            P.SIMILARITY_READ,
            P.SIMILARITY_CREATE,
            P.STUDY_CREATE,
            P.JOB_CONTROL,
        }
    ),
    Role.AUDITOR: frozenset(_READ | {P.AUDIT_READ, P.METRICS_READ}),
}
# What a reference in a body needs beside the permission of the route: the resource must be one the caller may use.
REFERENCES: dict[str, Permission] = {
    "export": P.EXPORT_DEIDENTIFY,
    "deid": P.COHORT_BUILD,
    "labels": P.LABEL_READ,
    "cohort": P.COHORT_READ,
    "model": P.MODEL_READ,
    "weights": P.MODEL_IMPORT,
}
# What controlling a job needs beside JOB_CONTROL: the permission that created its resource.
CONTROLS: dict[str, Permission] = {
    "export": P.EXPORT_DEIDENTIFY,
    "label": P.LABEL_CREATE,
    "cohort": P.COHORT_BUILD,
    "run": P.RUN_CREATE,
    "model": P.MODEL_IMPORT,
    "evaluation": P.EVALUATION_CREATE,
    "similarity": P.SIMILARITY_CREATE,
    "study": P.STUDY_CREATE,
}


@dataclass(frozen=True)
class Caller:
    """Who is asking: a person at a browser, a token, or the machine's own administrator at the command line."""

    name: str
    roles: frozenset[Role] = field(default_factory=frozenset)
    user_id: str | None = None
    token_id: str | None = None
    session_hash: str | None = None

    @property
    def anonymous(self) -> bool:
        return not self.roles and self.user_id is None

    def may(self, permission: Permission) -> bool:
        """Whether one of the caller's roles grants `permission`."""
        if permission is Permission.PUBLIC:
            return True
        if permission is Permission.SIGNED_IN:
            return not self.anonymous
        return any(permission in GRANTS[role] for role in self.roles)

    def require(self, permission: Permission) -> None:
        """Raise Forbidden unless the caller may; the sentence names the roles that could."""
        if not self.may(permission):
            roles = " or ".join(r.value.replace("_", " ") for r in Role if permission in GRANTS[r])
            raise Forbidden(f"This needs the role {roles}; ask an administrator for it.")


ANONYMOUS = Caller("anonymous")
COMMAND_LINE = Caller("command line", frozenset(Role))


def parse_roles(values: list[str]) -> frozenset[Role]:
    """Roles by name; unknown names (of a newer version, say) grant nothing."""
    return frozenset(Role(v) for v in values if v in set(Role))
