"""when an editor left the newsroom

Revision ID: 0005
Revises: 0004
Create Date: 2026-11-24 13:00:00

"""
from alembic import op
import sqlalchemy as sa


revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade():
    with op.batch_alter_table('editors', schema=None) as batch_op:
        batch_op.add_column(sa.Column('left_at', sa.DateTime(timezone=True), nullable=True))
    # Nobody wrote down when these left: their year begins now.
    op.execute("UPDATE editors SET left_at = CURRENT_TIMESTAMP WHERE state = 'left'")


def downgrade():
    # Not in a batch: on SQLite that makes the table anew, and others point to its rows.
    op.drop_column('editors', 'left_at')
