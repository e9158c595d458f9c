"""A program in one safetensors file, and acting with numpy alone."""
