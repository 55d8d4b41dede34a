"""Results on a page: which are saved, how they are shown, compared and made again."""
