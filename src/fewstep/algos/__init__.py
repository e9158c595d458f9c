"""Algorithms, each a record of plain functions (``contract.Algorithm``) that reads like its paper."""
