"""What load processes do: each module has `drive(load, **arguments)`. Runs in a process of its own, on Trio."""
