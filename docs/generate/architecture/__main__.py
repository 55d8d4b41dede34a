"""Writes the generated parts of the architecture page anew: `make architecture`."""

from docs.generate.architecture.parts import write

if __name__ == "__main__":
    write()
