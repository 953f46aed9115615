"""Shares of a job, and the pause before a job is tried again"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.add_column(sa.Column("not_before", sa.DateTime(), nullable=True))
        batch_op.add_column(sa.Column("parent_id", sa.String(length=12), nullable=True))
        batch_op.create_foreign_key(batch_op.f("fk_job_parent_id"), "job", ["parent_id"], ["id"])
        batch_op.create_index(batch_op.f("ix_job_parent_id"), ["parent_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_job_parent_id"))
        batch_op.drop_constraint(batch_op.f("fk_job_parent_id"), type_="foreignkey")
        batch_op.drop_column("parent_id")
        batch_op.drop_column("not_before")
