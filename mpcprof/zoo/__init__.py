"""Published private Transformers as whole systems: their parts, prices and defects."""
