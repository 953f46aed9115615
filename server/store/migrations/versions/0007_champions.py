"""Champions of a site's tasks"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "champion",
        sa.Column("id", sa.String(length=12), nullable=False),
        sa.Column("site_id", sa.String(length=12), nullable=False),
        sa.Column("task", sa.String(length=20), nullable=False),
        sa.Column("model_id", sa.String(length=12), nullable=False),
        sa.Column("evaluation_id", sa.String(length=12), nullable=False),
        sa.Column("before_id", sa.String(length=12), nullable=True),
        sa.Column("ruling", sa.JSON(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("practice", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("created_by", sa.String(length=12), nullable=True),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"], name=op.f("fk_champion_site_id")),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name=op.f("fk_champion_model_id")),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluation.id"], name=op.f("fk_champion_evaluation_id")),
        sa.ForeignKeyConstraint(["before_id"], ["champion.id"], name=op.f("fk_champion_before_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_champion")),
        sa.UniqueConstraint("before_id", name=op.f("uq_champion_before_id")),
    )


def downgrade() -> None:
    op.drop_table("champion")
