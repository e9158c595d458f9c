"""From environment steps to the data of updates."""
