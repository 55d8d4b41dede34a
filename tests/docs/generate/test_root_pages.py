"""Links between pages lead to the same page in the repository and on the site."""

import pytest

from docs.generate.root_pages import with_site_links


@pytest.mark.parametrize(
    ("source", "page", "target", "expected"),
    [
        ("docs/scale.md", "scale.md", "measured/faults.md", "measured/faults.md"),
        ("docs/scale.md", "scale.md", "../SECURITY.md", "security.md"),
        ("docs/extending/a.md", "extending/a.md", "../../CONTRIBUTING.md", "../contributing.md"),
        ("docs/extending/a.md", "extending/a.md", "../scale.md#there", "../scale.md#there"),
        ("CHANGELOG.md", "changelog.md", "docs/scale.md", "scale.md"),
        ("CHANGELOG.md", "changelog.md", "SECURITY.md#files", "security.md#files"),
        (
            "SECURITY.md",
            "security.md",
            "https://a.org/docs/scale.md",
            "https://a.org/docs/scale.md",
        ),
        ("SECURITY.md", "security.md", "#here", "#here"),
    ],
)
def test_links_are_moved(source, page, target, expected):
    text = f"See [that]({target}) and `x[0](y)`."
    assert with_site_links(text, source, page) == text.replace(f"({target})", f"({expected})")
