"""the relay, its senders, and what is uncertain

Revision ID: 0002
Revises: 0001
Create Date: 2026-11-24 09:15:00

"""
from alembic import op
import sqlalchemy as sa


revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade():
    with op.batch_alter_table('batches', schema=None) as batch_op:
        batch_op.add_column(sa.Column('recorded', sa.Integer(), nullable=False, server_default='0'))
        batch_op.add_column(sa.Column('since_fence', sa.Integer(), nullable=False, server_default='0'))
        batch_op.drop_column('doubted_at')
    with op.batch_alter_table('deliveries', schema=None) as batch_op:
        batch_op.add_column(sa.Column('uncertain_at', sa.DateTime(timezone=True), nullable=True))
    op.create_table('relays',
    sa.Column('name', sa.String(length=20), nullable=False),
    sa.Column('trouble', sa.Enum('relay_down', 'relay_login', 'relay_refuses', 'relay_slow_down', name='trouble', native_enum=False, length=20), nullable=True),
    sa.Column('status', sa.String(length=20), nullable=False),
    sa.Column('text', sa.String(length=200), nullable=False),
    sa.Column('since', sa.DateTime(timezone=True), nullable=True),
    sa.Column('probe_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('probes', sa.Integer(), nullable=False),
    sa.Column('accepted_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('connections', sa.Integer(), nullable=True),
    sa.Column('rate', sa.Float(), nullable=True),
    sa.Column('slowed_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('tokens', sa.Float(), nullable=False),
    sa.Column('filled_at', sa.DateTime(timezone=True), nullable=True),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_relays'))
    )
    op.create_table('senders',
    sa.Column('name', sa.String(length=80), nullable=False),
    sa.Column('issue_id', sa.Integer(), nullable=True),
    sa.Column('seen_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('connections', sa.Integer(), nullable=False),
    sa.Column('rate', sa.Float(), nullable=False),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_senders'))
    )


def downgrade():
    op.drop_table('senders')
    op.drop_table('relays')
    with op.batch_alter_table('deliveries', schema=None) as batch_op:
        batch_op.drop_column('uncertain_at')
    with op.batch_alter_table('batches', schema=None) as batch_op:
        batch_op.add_column(sa.Column('doubted_at', sa.DateTime(timezone=True), nullable=True))
        batch_op.drop_column('since_fence')
        batch_op.drop_column('recorded')
