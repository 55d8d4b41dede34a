"""Text from elsewhere, for widgets that read Markdown."""

import re

_SPECIAL = re.compile(r"([\\`*_\[\]$:~<>#])")


def plain(text: object) -> str:
    """Text that Markdown shows as it stands, whatever a prompt, path or message holds."""
    return _SPECIAL.sub(r"\\\1", str(text))
