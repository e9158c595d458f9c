"""Parts that algorithms are made of. None is a base class: an ``update`` reads from top to bottom."""
