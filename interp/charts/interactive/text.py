"""Texts as plotly shows them."""


def plain(text: str) -> str:
    """Text that plotly shows as it is: it reads HTML, `$...$` as TeX, `%{...}` as a field."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace("$", "&#36;").replace("%{", "%&#123;")
