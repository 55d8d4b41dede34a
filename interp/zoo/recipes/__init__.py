"""How the models of the zoo were made.

`induction`, `positions`, `modular_addition`, `brackets` and `translation` can be run, each as
`python -m interp.zoo.recipes.induction`. The other modules are what these are made of; all that is
called `parallel_…` is the two grammars of `translation`.
"""
