"""Policies for others: a run as a small folder with a model card, on the Hugging Face Hub."""
