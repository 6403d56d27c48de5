"""Whose operator is tested: the adapters to its protocol and its arrays."""
