"""Report generation: a frozen encoder, a projector and a causal language model write the findings of an image."""
