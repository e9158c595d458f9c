"""Network layers as frozen Equinox modules whose leaves are all arrays, written for one sample; ``vmap`` batches them."""
