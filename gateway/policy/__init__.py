"""Should they? Functions that decide on what is allowed by right, and say why. They do no I/O."""
