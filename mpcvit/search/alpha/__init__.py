"""The paper's search: alpha mixes two attentions, beta two activations."""
