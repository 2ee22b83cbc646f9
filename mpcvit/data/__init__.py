"""Images with labels: where they come from, how they are varied and handed out."""
