"""What changes when activations are exchanged: `activation-patching`, `path-patching`, and
`attribution-patching`, which estimates both."""
