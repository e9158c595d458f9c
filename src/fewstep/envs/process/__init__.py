"""Environments in processes of their own: supervision, the protocol between them, the worker."""
