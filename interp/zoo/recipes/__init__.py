"""How the models of the zoo were made: one runnable module each."""
