"""Whether files are still as they were written."""

from __future__ import annotations

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
