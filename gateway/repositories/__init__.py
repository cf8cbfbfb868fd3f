"""Repositories: what a name leads to. Reading and, for hosted ones, writing; no HTTP, no permissions."""
