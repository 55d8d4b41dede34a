"""Whether files are still as they were written."""

from __future__ import annotations

from interp.errors import require
from interp.harvest.corpus import TokenStore
from interp.harvest.open_shards import OpenShards
from interp.harvest.shard_files import damage
from interp.progress import report


def damaged_shards(shards: OpenShards) -> list[int]:
    """The numbers of shards with a file that is missing or has another checksum than its receipt.

    Every byte is read. The harvest with `verify=True` makes such shards anew.
    """
    found = []
    for done, receipt in enumerate(shards.receipts):
        report(done / len(shards.receipts), f"shard {receipt.shard}")
        if damage(shards.directory, receipt, checksums=True) is not None:
            found.append(receipt.shard)
    return found


def require_whole_tokens(tokens: TokenStore) -> None:
    """Read a corpus's tokens and compare their checksums.

    Raises:
        InputError: naming the files that are not as they were written.
    """
    damaged = tokens.damaged()
    require(
        not damaged,
        f"tokens must be as they were written. {tokens.directory} has damaged files "
        f"({', '.join(damaged)}): remove it, and the same harvest makes it again",
    )
