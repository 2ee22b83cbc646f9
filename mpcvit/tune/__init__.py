"""The fastest plan under which a trained network still says the same."""
