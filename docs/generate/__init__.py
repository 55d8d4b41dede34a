"""What makes pages, pictures and tables of the site from the code itself.

`site` is what mkdocs calls while it builds (`make docs`). The others write files that are checked
in: a test fails when the code has moved on and they have not.
"""
