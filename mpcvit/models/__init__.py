"""Vision Transformers in torch, and the supernet that a search trains."""
