"""Text from elsewhere, for widgets that read Markdown."""

import re

_SPECIAL = re.compile(r"([\\`*_\[\]$:~<>#&])")
# Markdown makes links of these by themselves, whatever is escaped; a word joiner, which takes no
# room, keeps what stands on either side apart.
_LINK = re.compile(r"(?i)(?<=www)(?=\.)|(?<=:)(?=//)|(?<=\S)(?=@[\w-]+\.)")
_JOINER = "\u2060"


def plain(text: object) -> str:
    """Text that Markdown shows as it stands, whatever a prompt, path or message holds."""
    return _SPECIAL.sub(r"\\\1", _LINK.sub(_JOINER, str(text)))
