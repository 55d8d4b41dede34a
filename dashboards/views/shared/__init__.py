"""What several pages ask and draw alike."""
