"""Rows: one module per aggregate, plain functions over one `Transaction`, statements built once at import.

A function never opens or ends a transaction; its caller does, through `storage.database.Database`. So several
functions make one atomic act. Nothing here knows HTTP, manifest JSON or policy. Times are Unix seconds (UTC, int).
"""
