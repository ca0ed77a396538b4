"""proof of work: each answer counts once, and a form says whether it had one

Revision ID: 0004
Revises: 0003
Create Date: 2026-11-24 13:00:00

"""
from alembic import op
import sqlalchemy as sa


revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade():
    with op.batch_alter_table('signup_requests', schema=None) as batch_op:
        batch_op.add_column(sa.Column('unproven', sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index('uq_attempts_once', 'attempts', ['who'], unique=True, sqlite_where=sa.text("kind = 'proof'"), postgresql_where=sa.text("kind = 'proof'"))


def downgrade():
    op.drop_index('uq_attempts_once', table_name='attempts')
    with op.batch_alter_table('signup_requests', schema=None) as batch_op:
        batch_op.drop_column('unproven')
