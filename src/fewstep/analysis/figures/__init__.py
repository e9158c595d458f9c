"""One function per figure, each drawn in one style."""
