"""What every page stands on: its address, its subject (a model and what it reads), its forms."""
