"""What an output is owed to, parts or tokens: `head-attribution`, `input-attribution`."""
