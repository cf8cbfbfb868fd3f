"""The distribution and image specs as pure functions over text and bytes: no I/O, no rows, no HTTP framework."""
