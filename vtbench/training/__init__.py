"""Training of the small reference tokenizers: `vtbench train-reference NAME`."""
