"""Which images, in which order, from where; batches of them."""
