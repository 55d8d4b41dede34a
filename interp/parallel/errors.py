"""What goes wrong between ranks."""

from interp.errors import InterpError


class ReplicaError(InterpError, RuntimeError):
    """Ranks that must hold the same tensor hold different ones."""
