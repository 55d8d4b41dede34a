"""What a model predicts: next tokens along a prompt, and a text continued."""
