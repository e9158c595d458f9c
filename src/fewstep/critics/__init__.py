"""Critics: what they predict, how their targets are built, how they are combined."""
