"""The screen: the command line, `interp`, and the Streamlit pages.

`cli` and `commands` are the first, `app` and `views` the second. A view asks `readings` for numbers
and `drawing` for pictures; `page` holds what all pages stand on.
"""
