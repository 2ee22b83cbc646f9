"""Search: `alpha`, the paper's, and `layers`, over all that a layer is made of."""
