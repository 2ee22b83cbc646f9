"""Vision Transformers that are cheap under secure computation: search, train, infer."""
