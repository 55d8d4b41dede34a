"""A script in percent format becomes a page with the same text and the same code."""

from pathlib import Path

import pytest

pytest.importorskip("jupytext", reason="needs the extra 'docs'")

from docs.generate.examples import example_page
from tests.docs.pages import blocks

_SCRIPT = '''# %% [markdown]
# # A title
#
# Some words.

# %%
x = 1
text = """
```python
"""

# %% [markdown]
# ## More

# %%
print(x)
'''


def test_cells_become_text_and_code(tmp_path: Path):
    script = tmp_path / "an_example.py"
    script.write_text(_SCRIPT)
    page = example_page(script)
    assert page.startswith("# A title\n\nA script to run")
    assert "[an_example.py](an_example.py)" in page
    assert page.index("Some words.") < page.index("x = 1") < page.index("## More")
    assert [block.text for block in blocks(page)] == [
        'x = 1\ntext = """\n```python\n"""\n',
        "print(x)\n",
    ]


def test_a_script_without_a_title_is_named_after_its_file(tmp_path: Path):
    script = tmp_path / "an_example.py"
    script.write_text("# %% [markdown]\n# Some words.\n")
    page = example_page(script)
    assert page.startswith("# An example\n")
    assert "Some words." in page
