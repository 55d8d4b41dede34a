"""Where a model knows where it is: `position-report` and its parts, `length-generalisation`.

The parts: `position-attention`, `position-geometry`, `position-probes`, `position-interventions`.
"""
