"""Sluice's load suite: it drives registries over the wire and imports nothing of the gateway."""
