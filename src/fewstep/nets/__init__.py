"""Networks as frozen Equinox modules whose leaves are all arrays, for one sample; ``vmap`` batches them."""
