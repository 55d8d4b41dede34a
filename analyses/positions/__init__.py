"""Where a model knows where it is: `position-report` and its parts, `length-generalisation`."""
