"""What goes wrong in real life, done on purpose to real processes, and the invariants checked after each fault."""
