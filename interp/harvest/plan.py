"""Which sequences a shard has, and in which batches they are run."""

from __future__ import annotations

from dataclasses import dataclass

from interp.errors import require, require_whole


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """Sequences cut into shards and batches; the same however many workers there are.

    Attributes:
        n_sequences: Of the corpus.
        sequences_per_shard: Of every shard but the last, which has what is left.
        batch_size: Of every batch but a shard's last.
    """

    n_sequences: int
    sequences_per_shard: int
    batch_size: int

    def __post_init__(self) -> None:
        for name in ("n_sequences", "sequences_per_shard", "batch_size"):
            require_whole(name, getattr(self, name), 1)

    @classmethod
    def make(cls, n_sequences: int, length: int, shard_tokens: int, batch_size: int) -> ShardPlan:
        """Shards of at most `shard_tokens` tokens, or of one sequence where that is longer.

        Raises:
            InputError: unless `length` is a whole number of at least 1.
        """
        require_whole("length", length, 1)
        return cls(
            n_sequences=n_sequences,
            sequences_per_shard=max(1, min(shard_tokens // length, n_sequences)),
            batch_size=batch_size,
        )

    @property
    def n_shards(self) -> int:
        """How many shards there are."""
        return -(-self.n_sequences // self.sequences_per_shard)

    def sequences(self, shard: int) -> range:
        """The numbers of a shard's sequences.

        Raises:
            InputError: if there is no such shard.
        """
        require(
            0 <= shard < self.n_shards,
            f"shard must lie in 0 … {self.n_shards - 1}. Received {shard}",
        )
        start = shard * self.sequences_per_shard
        return range(start, min(start + self.sequences_per_shard, self.n_sequences))

    def batches(self, shard: int) -> list[range]:
        """The same, batch by batch."""
        sequences = self.sequences(shard)
        return [
            range(start, min(start + self.batch_size, sequences.stop))
            for start in range(sequences.start, sequences.stop, self.batch_size)
        ]
