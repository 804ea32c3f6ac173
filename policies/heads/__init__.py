"""Heads: how a trunk's features become a distribution over action chunks."""
