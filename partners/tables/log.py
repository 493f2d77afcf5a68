"""The transparency log: the outbox that entries leave through, their places, the tree above them, and who signs it."""

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from partners.tables.columns import UUID, datetime, digest, moment, text


class Outbox(SQLModel, table=True):
    """An entry that the sequencer has not taken yet; it takes by DELETE, so that none is ever passed over."""

    __tablename__ = "outbox"

    entry_id: UUID = Field(primary_key=True, sa_type=sa.Uuid)
    leaf_hash: bytes = digest()


class LogLeaf(SQLModel, table=True):
    """The place of an entry in the transparency log: index 0, 1, 2, … without a gap."""

    __tablename__ = "log_leaf"

    index: int = Field(primary_key=True, sa_type=sa.BigInteger, sa_column_kwargs={"autoincrement": False})
    entry_id: UUID = Field(unique=True, sa_type=sa.Uuid)
    leaf_hash: bytes = digest()


class LogHead(SQLModel, table=True):
    """The sequencer's one row: how many leaves are in the tree, the roots of its full subtrees from large to
    small (the compact range), and the last signed checkpoint. Its lock makes the sequencer the only one.

    `origin` names the log for as long as it lives, wherever its service moves; empty until the first leaf. `number`
    counts the logs that the database has had, each going on from the one before."""

    __tablename__ = "log_head"
    __table_args__ = (sa.CheckConstraint("id = 1", name="only_one"),)

    id: int = Field(default=1, primary_key=True)
    origin: str = text(default="")
    number: int = Field(default=1, sa_type=sa.SmallInteger, sa_column_kwargs={"server_default": "1"})
    size: int = Field(default=0, sa_type=sa.BigInteger)
    frontier: bytes = digest(default=b"")
    checkpoint: str = text(default="")


class LogNode(SQLModel, table=True):
    """The root of a full subtree of 256 ** `level` leaves, the `index`-th of its level: what C2SP's tiles above the
    lowest are made of. The lowest tiles are made of `log_leaf`."""

    __tablename__ = "log_node"
    __table_args__ = (sa.PrimaryKeyConstraint("level", "index"),)

    level: int = Field(sa_type=sa.SmallInteger)
    index: int = Field(sa_type=sa.BigInteger)
    hash: bytes = digest()


class LogKey(SQLModel, table=True):
    """A key that signs checkpoints of the log `origin`: its verifier key as text, its seed of 32 bytes sealed.

    It signs until `retired_at`; while two do, each checkpoint has both signatures.
    """

    __tablename__ = "log_key"

    label: str = text(primary_key=True)
    origin: str = text()
    verifier: str = text()
    sealed: bytes = digest()
    created_at: datetime = moment()
    retired_at: datetime | None = moment(nullable=True, default=None)


class WitnessedCheckpoint(SQLModel, table=True):
    """A checkpoint with the cosignatures of witnesses: proof that others have seen the log at that size."""

    __tablename__ = "witnessed_checkpoint"
    __table_args__ = (sa.PrimaryKeyConstraint("origin", "size"),)

    origin: str = text()
    size: int = Field(sa_type=sa.BigInteger)
    note: str = text()
    witnesses: int = Field(sa_type=sa.SmallInteger)
    at: datetime = moment()
