"""how often a reader changed their address

Revision ID: 0006
Revises: 0005
Create Date: 2026-11-24 16:00:00

"""
from alembic import op
import sqlalchemy as sa


revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade():
    op.add_column('subscribers', sa.Column('moved', sa.Integer(), server_default=sa.text('0'), nullable=False))


def downgrade():
    # Not in a batch: on SQLite that makes the table anew, and others point to its rows.
    op.drop_column('subscribers', 'moved')
