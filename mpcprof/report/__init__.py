"""What a colleague is forwarded: one or several profiles, as a page and as tables."""
