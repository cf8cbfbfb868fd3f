"""Sluice's storage: digests, bytes and rows; it knows nothing of HTTP, of manifests, or of policy."""
