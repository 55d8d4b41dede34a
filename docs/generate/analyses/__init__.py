"""The pages of the canned analyses: what of them is made by running the analysis itself.

    python -m docs.generate.analyses                 # every page of docs/analyses
    python -m docs.generate.analyses head-scores     # one
    python -m docs.generate.analyses --text          # what needs no run: question, code, parameters

A page says in a comment what it runs (`PageSettings`, as JSON):

    <!-- settings
    {"model": "zoo:induction", "parameters": {"head": "L1H0"}, "figures": ["components"]}
    -->

and has, between `<!-- generated: NAME -->` and `<!-- end: NAME -->`, the parts that are written
here: `question`, `run` (the command line and the Python), `figure FIGURE` for each figure, `table
TABLE` for each table, `checks` and `parameters`. Figures go to `docs/images/analyses/`.
"""
