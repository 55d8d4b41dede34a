"""One run of a model: what it is given, planned from what is wanted, carried out and recorded."""
