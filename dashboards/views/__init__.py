"""The pages: one module or folder each, with a function `show` that draws it.

They do not stand in `pages/`: Streamlit would run files there by themselves, without `app.py`.
"""
