"""What mkdocs calls while it builds the site: pages that are made, not written.

The API pages, the example scripts as pages, and the files at the top of the repository that belong
to the site. See `hooks` in `mkdocs.yml`.
"""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs.generate.anchors import anchor
from docs.generate.api import api_index, api_pages
from docs.generate.examples import example_page
from docs.generate.root_pages import ROOT_PAGES, with_site_links
from docs.generate.site_markdown import as_shown
from docs.generate.source import ROOT

_API = "API"  # the part of the menu that is filled here


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give headings the anchors that they have on GitHub, and fill the API's part of the menu."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = anchor
    for part in config.nav or []:
        if isinstance(part, dict) and _API in part:
            part[_API] += [{page.module: page.path} for page in api_pages()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    pages = api_pages()
    made = {"api/index.md": api_index(pages)} | {page.path: page.markdown() for page in pages}
    for script in sorted((ROOT / "docs/examples").glob("*.py")):
        made[f"examples/{script.stem}.md"] = example_page(script)
    for name, page in ROOT_PAGES.items():
        if (ROOT / name).exists():
            made[page] = with_site_links((ROOT / name).read_text("utf-8"), name, page)
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let a written page's links lead to where things are on the site, and show its code."""
    if page.file.generated_by is None:
        source = Path("docs", page.file.src_uri).as_posix()
        markdown = with_site_links(markdown, source, page.file.src_uri)
    return as_shown(markdown)
