"""Where tensors lie: one device or several, how much room there is, and copies between them."""
