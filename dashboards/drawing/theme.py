"""Light or dark: which the reader sees, and drawing again when that changes."""

import streamlit as st

# Streamlit tells the theme with every run, but does not run again when the reader picks another.
# The element says so once it has seen the change; the colours of a page hang on this class alone.
_WATCH = """
export default function ({ setStateValue }) {
  const page = document.querySelector('[data-testid="stApp"]');
  const scheme = () => getComputedStyle(page).colorScheme;
  let drawn = scheme();
  const watcher = new MutationObserver(() => {
    if (scheme() !== drawn) {
      drawn = scheme();
      setStateValue("scheme", drawn);
    }
  });
  watcher.observe(page, { attributes: true, attributeFilter: ["class"] });
  return () => watcher.disconnect();
}
"""


def is_dark() -> bool:
    """Whether the page is dark, by the reader's system or Streamlit's menu.

    The browser says so before the first run. What is no browser, such as a test, says nothing and
    is given a light page.
    """
    return bool(st.context.theme.type == "dark")


def follow() -> None:
    """Run the page again when the reader picks another theme, for charts carry their colours.

    Put it on a page once. It takes no room.
    """
    watch = st.components.v2.component("interp_theme", js=_WATCH, isolate_styles=False)
    watch(key="theme", height=1, on_scheme_change=lambda: None)
