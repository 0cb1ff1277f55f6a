"""A block has a case of each assay; a slide belongs to its block and no more to one case."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Index, MetaData, String, Table

from appliance.ledger.migrations.columns import columns_of

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Rebuild both tables: constraints of SQLite tables cannot be changed in place."""
    connection = op.get_bind()
    if "assay" not in columns_of(connection, "case"):
        with op.batch_alter_table(
            "case", recreate="always", copy_from=_without_constraints("case")
        ) as batch:
            batch.add_column(Column("assay", String, nullable=False, server_default="her2"))
            batch.create_unique_constraint("uq_case_block_assay", ["accession", "block", "assay"])
    if "case_id" in columns_of(connection, "slide"):
        op.drop_index("ix_slide_case_id", "slide", if_exists=True)
        with op.batch_alter_table(
            "slide", recreate="always", copy_from=_without_constraints("slide")
        ) as batch:
            batch.drop_column("case_id")
    op.create_index("ix_slide_accession_block", "slide", ["accession", "block"], if_not_exists=True)


def _without_constraints(name: str) -> Table:
    """Return the table as it is, with its indexes and without UNIQUE and FOREIGN KEY."""
    found = Table(name, MetaData(), autoload_with=op.get_bind(), resolve_fks=False)
    made = Table(
        name,
        MetaData(),
        *(
            Column(
                column.name,
                column.type,
                primary_key=column.primary_key,
                nullable=column.nullable,
                server_default=column.server_default,
            )
            for column in found.columns
        ),
    )
    for index in found.indexes:
        Index(index.name, *(made.c[column.name] for column in index.columns), unique=index.unique)
    return made
