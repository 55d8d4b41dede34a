"""An array on disk that grows at its end while it is written."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Self

import numpy as np


class GrowingArray:
    """A one-dimensional `.npy` file, written piece by piece in bounded memory.

    numpy leaves room in a `.npy` header for the length to grow to any size, so the header is
    written again when the array is whole. Use it as a context manager.

    Attributes:
        length: Entries so far.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self.length = 0
        self._dtype = dtype.newbyteorder("<")
        self._digest = hashlib.sha256()
        self._file = open(path, "wb")  # noqa: SIM115  # closed by __exit__
        self._write_header()

    def append(self, values: np.ndarray[Any, Any]) -> None:
        """Put values at the end; they must fit the dtype, which is not looked at."""
        data = np.ascontiguousarray(values, dtype=self._dtype).tobytes()
        self._digest.update(data)
        self._file.write(data)
        self.length += len(values)

    def sha256(self) -> str:
        """Of the entries so far, in hex, without the header."""
        return self._digest.hexdigest()

    def _write_header(self) -> None:
        fields = {"descr": self._dtype.str, "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self._file, fields)

    def __enter__(self) -> Self:
        """Nothing has to be opened any more."""
        return self

    def __exit__(self, *_: object) -> None:
        """Write the header anew, and close the file."""
        with self._file:
            self._file.seek(0)
            self._write_header()
