"""Models larger than one device: tensor parallelism whose hooks see whole tensors.

Every process calls `load_tensor_parallel`, or `tensor_parallel` with a model that it has, and has a
`TensorParallelTransformer`. `axes` says what is shared out: heads and neurons.
"""

from interp.parallel.errors import ReplicaError
from interp.parallel.make import load_tensor_parallel, tensor_parallel
from interp.parallel.model import TensorParallelTransformer
from interp.parallel.ranks import Ranks

__all__ = [
    "Ranks",
    "ReplicaError",
    "TensorParallelTransformer",
    "load_tensor_parallel",
    "tensor_parallel",
]
