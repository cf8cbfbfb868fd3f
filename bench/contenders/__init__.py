"""The servers that are compared: ours, and peers of the same machine, each started on loopback by the suite."""
