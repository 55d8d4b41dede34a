"""Canned analyses of superposition: toy models of it, and the same measures on real models.

Begin with `intro`. Beside an analysis stand its `…_tables`, and for some `…_findings`: what a paper
says, and what was found. Toys and their measures are `interp.toys`; `in_model` measures a
Transformer.
"""
