"""The words of the audit log: subject and action."""

from __future__ import annotations

from enum import StrEnum


class Action(StrEnum):
    SETUP = "setup:complete"
    SIGN_IN = "session:sign_in"
    SIGN_IN_REFUSED = "session:refused"
    SIGN_OUT = "session:sign_out"
    USER_CREATE = "user:create"
    USER_UPDATE = "user:update"
    USER_PASSWORD = "user:password"  # noqa: S105
    TOKEN_CREATE = "token:create"  # noqa: S105
    TOKEN_REVOKE = "token:revoke"  # noqa: S105
    SITE_CREATE = "site:create"
    SITE_EPOCH = "site:new_epoch"
    EXPORT_REGISTER = "export:register"
    EXPORT_DESCRIBE = "export:describe"
    EXPORT_DEIDENTIFY = "export:deidentify"
    EXPORT_RELEASE = "export:release"
    EXPORT_SEND_BACK = "export:send_back"
    QUARANTINE_RESOLVE = "quarantine:resolve"
    REIDENTIFY = "vault:reidentify"
    VAULT_REWRAP = "vault:rewrap"
    REVIEW_EXPORT = "review:export"
    REVIEW_LOOK = "review:look"
    REVIEW_VERDICT = "review:verdict"
    REVIEW_WITHDRAW = "review:withdraw"
    LABEL_CREATE = "label:create"
    COHORT_BUILD = "cohort:build"
    COHORT_EXTERNAL = "cohort:external"
    RUN_CREATE = "run:create"
    MODEL_IMPORT = "model:import"
    MODEL_PROMOTE = "model:promote"
    EVALUATION_CREATE = "evaluation:create"
    SIMILARITY_CREATE = "similarity:create"
    STUDY_CREATE = "study:create"
    STUDY_EXTEND = "study:extend"
    STUDY_JUDGE = "study:judge"
    STUDY_CANCEL = "study:cancel"
    STUDY_RESUME = "study:resume"
    JOB_CANCEL = "job:cancel"
    JOB_RESUME = "job:resume"
