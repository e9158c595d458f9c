"""Judging a policy: whole episodes, samples of the toys, films."""
