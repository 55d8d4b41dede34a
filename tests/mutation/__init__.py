"""Whether the tests notice: small faults planted in the instrument, one at a time.

`python -m tests.mutation` (or `make mutation`) takes mutmut's operators and runs, of each mutant,
the tests that reach its lines, in a process forked from one that has imported everything.
Of what survives, `survivors.toml` says why no test was written for it.
"""
