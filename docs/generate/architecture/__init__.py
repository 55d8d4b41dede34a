"""The generated parts of the architecture page: two pictures and the tables of folders.

`make architecture` renews them.
"""
