"""the reader: letters, reports, and counts that name nobody

Revision ID: 0003
Revises: 0002
Create Date: 2026-11-24 12:50:00

"""
from alembic import op
import sqlalchemy as sa


revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade():
    op.create_table('letters',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('subscriber_id', sa.Integer(), nullable=False),
    sa.Column('kind', sa.Enum('data', 'address_new', 'address_told', name='letterkind', native_enum=False, length=20), nullable=False),
    sa.Column('language', sa.String(length=2), nullable=False),
    sa.Column('email', sa.String(length=254), nullable=False),
    sa.Column('asked_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('used_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('due_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('attempts', sa.Integer(), nullable=False),
    sa.Column('mailed_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('failed_at', sa.DateTime(timezone=True), nullable=True),
    sa.ForeignKeyConstraint(['subscriber_id'], ['subscribers.id'], name=op.f('fk_letters_subscriber_id_subscribers')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_letters')),
    sqlite_autoincrement=True
    )
    with op.batch_alter_table('letters', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_letters_asked_at'), ['asked_at'], unique=False)
        batch_op.create_index(batch_op.f('ix_letters_due_at'), ['due_at'], unique=False)
        batch_op.create_index(batch_op.f('ix_letters_subscriber_id'), ['subscriber_id'], unique=False)
    op.create_table('consent_counts',
    sa.Column('theme_id', sa.Integer(), nullable=False),
    sa.Column('week', sa.String(length=8), nullable=False),
    sa.Column('event', sa.Enum('requested', 'confirmed', 'changed', 'withdrawn', 'complaint', 'bounced', 'imported', name='consentevent', native_enum=False, length=20), nullable=False),
    sa.Column('count', sa.Integer(), nullable=False),
    sa.ForeignKeyConstraint(['theme_id'], ['themes.id'], name=op.f('fk_consent_counts_theme_id_themes')),
    sa.PrimaryKeyConstraint('theme_id', 'week', 'event', name=op.f('pk_consent_counts'))
    )
    op.create_table('erasures',
    sa.Column('address_hash', sa.String(length=64), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('address_hash', name=op.f('pk_erasures'))
    )
    with op.batch_alter_table('erasures', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_erasures_at'), ['at'], unique=False)
    op.create_table('reports',
    sa.Column('issue_id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('subscriber_id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('kind', sa.Enum('hard', 'soft', 'complaint', 'fault', name='reportkind', native_enum=False, length=20), nullable=False),
    sa.Column('status', sa.String(length=20), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('issue_id', 'subscriber_id', 'kind', name=op.f('pk_reports'))
    )
    with op.batch_alter_table('reports', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_reports_at'), ['at'], unique=False)
        batch_op.create_index(batch_op.f('ix_reports_subscriber_id'), ['subscriber_id'], unique=False)
    op.create_table('report_counts',
    sa.Column('day', sa.Date(), nullable=False),
    sa.Column('sort', sa.String(length=20), nullable=False),
    sa.Column('count', sa.Integer(), nullable=False),
    sa.PrimaryKeyConstraint('day', 'sort', name=op.f('pk_report_counts'))
    )
    op.create_table('delivery_counts',
    sa.Column('issue_id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('kind', sa.String(length=20), nullable=False),
    sa.Column('count', sa.Integer(), nullable=False),
    sa.PrimaryKeyConstraint('issue_id', 'kind', name=op.f('pk_delivery_counts'))
    )


def downgrade():
    for table in ('delivery_counts', 'report_counts', 'reports', 'erasures', 'consent_counts', 'letters'):
        op.drop_table(table)
