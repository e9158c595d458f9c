"""How close an update comes to what the processor can do: operations that must be done, and the peak."""
