"""Sluice, the registry gateway: everything that speaks HTTP, decides, or knows what a manifest is."""
