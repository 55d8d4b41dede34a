"""Files that nobody wrote: what interp reads, damaged in thousands of ways.

`python -m tests.fuzz --inputs 12000 --seed 0` (or `make fuzz`). Whatever is
read must come out whole or as an error of interp's own: no other exception, nothing run, nothing
left behind, no hang.
"""
