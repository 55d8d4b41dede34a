"""interp beside other packages: the same work on the same weights, in turns (`make bench`)."""
