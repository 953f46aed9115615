"""Scaling studies, and jobs that wait for others"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "study",
        sa.Column("cohort_id", sa.String(length=12), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("practice", sa.Boolean(), nullable=False),
        sa.Column("id", sa.String(length=12), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("created_by", sa.String(length=12), nullable=True),
        sa.ForeignKeyConstraint(["cohort_id"], ["cohort.id"], name=op.f("fk_study_cohort_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study")),
    )
    op.create_table(
        "study_run",
        sa.Column("study_id", sa.String(length=12), nullable=False),
        sa.Column("run_id", sa.String(length=12), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_study_run_study_id")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_study_run_run_id")),
        sa.PrimaryKeyConstraint("study_id", "run_id", name=op.f("pk_study_run")),
    )
    op.create_table(
        "job_need",
        sa.Column("job_id", sa.String(length=12), nullable=False),
        sa.Column("need_id", sa.String(length=12), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_job_need_job_id")),
        sa.ForeignKeyConstraint(["need_id"], ["job.id"], name=op.f("fk_job_need_need_id")),
        sa.PrimaryKeyConstraint("job_id", "need_id", name=op.f("pk_job_need")),
    )
    op.create_index(op.f("ix_job_need_need_id"), "job_need", ["need_id"], unique=False)


def downgrade() -> None:
    op.drop_table("job_need")
    op.drop_table("study_run")
    op.drop_table("study")
