"""Texts that are too long for an address, kept in files that are named by their hash."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from urllib.parse import quote

from interp.errors import InputError
from interp.files.atomic import replacing_file

IN_ADDRESS = 600  # characters of one value as an address writes it
MAX_TEXT = 200_000  # characters
MAX_KEPT = 2_000  # texts; the oldest make room
FOLDER = ".texts"  # in the directory of saved runs

_NAME = re.compile(r"sha256-[0-9a-f]{64}")


class KeptTexts:
    """The texts of a directory of runs.

    Attributes:
        folder: Where they are; made when the first is kept.
    """

    def __init__(self, runs: Path) -> None:
        self.folder = runs / FOLDER

    def shortened(self, text: str) -> str:
        """What an address says for a text: the text, or the name under which it is kept.

        Raises:
            InputError: If it is longer than any that is kept.
        """
        if len(text) <= IN_ADDRESS and len(quote(text)) <= IN_ADDRESS and not _NAME.match(text):
            return text
        if len(text) > MAX_TEXT:
            raise InputError(
                f"a text of the page has {MAX_TEXT} characters at most. Received {len(text)}."
            )
        data = text.encode("utf-8", "surrogatepass")
        name = f"sha256-{hashlib.sha256(data).hexdigest()}"
        file = self.folder / name
        if not file.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._make_room()
            with replacing_file(file) as fresh:
                fresh.write_bytes(data)
        return name

    def whole(self, value: str) -> str:
        """The text that an address means.

        Raises:
            InputError: If it names a text that is not kept here, or is no longer what it was.
        """
        if not _NAME.fullmatch(value):
            return value
        file = self.folder / value
        if not file.is_file():
            raise InputError(
                f"the address names a long text that is kept with the runs of another dashboard, "
                f"or no longer: {value}"
            )
        data = file.read_bytes()
        if f"sha256-{hashlib.sha256(data).hexdigest()}" != value:
            raise InputError(f"the text kept as {value} is damaged: its hash is another")
        return data.decode("utf-8", "surrogatepass")

    def _make_room(self) -> None:
        kept = sorted(self.folder.glob("sha256-*"), key=lambda file: file.stat().st_mtime)
        for file in kept[: max(0, len(kept) + 1 - MAX_KEPT)]:
            file.unlink(missing_ok=True)
