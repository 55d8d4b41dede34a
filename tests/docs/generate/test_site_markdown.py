"""What is written for GitHub is shown alike on the site."""

from docs.generate.site_markdown import as_shown


def test_no_run_goes_from_fences_alone():
    assert as_shown("```python no-run\nx\n```") == "```python\nx\n```"
    assert as_shown("```sh no-run") == "```sh no-run"
    assert as_shown("Mark it ```python no-run so.") == "Mark it ```python no-run so."


def test_bars_in_code_of_a_table_are_plain():
    row = r"| `str \| int` | a \| b | `` `x` \| y `` |"
    assert as_shown(row) == r"| `str | int` | a \| b | `` `x` | y `` |"
    assert as_shown(r"`str \| int` outside") == r"`str \| int` outside"
