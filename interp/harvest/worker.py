"""What makes and writes shards, in this process or another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from interp.errors import InputError
from interp.files.lock import require_held
from interp.harvest.corpus import TokenStore
from interp.harvest.made_on import made_on
from interp.harvest.make_shard import MadeShard, make_shard
from interp.harvest.manifest import read_manifest
from interp.harvest.shard_files import Receipt, write_shard
from interp.harvest.statistics import HookStatistics, statistics_tensors
from interp.transformer import HookedTransformer
from interp.weights import weight_hash

TOKENS = "tokens"


class ShardWorker:
    """Makes shards of one dataset, and writes them.

    Args:
        model: The manifest's model.
        out: The dataset's directory, with manifest and tokens.
        token: Of the driver's lock; work for a driver that has lost it is dropped.
    """

    def __init__(self, model: HookedTransformer, out: Path, token: str) -> None:
        self.model, self.out, self.token = model, out, token
        self.manifest = read_manifest(out)
        self.tokens = TokenStore.open(out / TOKENS)
        self.made_on = made_on(model)

    def make(self, shard: int) -> MadeShard:
        """Run the model on a shard's tokens."""
        return make_shard(self.model, self.tokens, self.manifest, shard)

    def finish(self, made: MadeShard) -> Receipt:
        """Write it; may run beside the next `make`."""
        return write_shard(
            self.out,
            made.shard,
            made.hooks,
            made.index,
            self._statistics(made),
            self.made_on,
            lambda: require_held(self.out, self.token),
        )

    def _statistics(self, made: MadeShard) -> dict[str, Tensor] | None:
        names = self.manifest.settings.statistics
        if not names:
            return None
        return statistics_tensors(
            {hook: HookStatistics.measure(rows, names) for hook, rows in made.hooks.items()}
        )


@dataclass(frozen=True)
class ShardWorkerFactory:
    """Opens a worker, wherever it is called.

    Attributes:
        model: The model itself, or what `load_model` opens.
        out: The dataset's directory.
        token: Of the driver's lock.
    """

    model: HookedTransformer | str
    out: str
    token: str

    def __call__(self) -> ShardWorker:
        """Load the model where it has to be loaded.

        Raises:
            InputError: if it is not the manifest's.
        """
        out = Path(self.out)
        if isinstance(self.model, HookedTransformer):
            return ShardWorker(self.model, out, self.token)
        from interp.pretrained import load_model

        manifest = read_manifest(out)
        model = load_model(self.model, dtype=manifest.model["cfg"]["dtype"])
        found, expected = weight_hash(model), manifest.model["weight_hash"]
        if found != expected:
            raise InputError(
                f"a worker must have the driver's model, SHA-256 {expected}. "
                f"{self.model} is {found} here."
            )
        return ShardWorker(model, out, self.token)
