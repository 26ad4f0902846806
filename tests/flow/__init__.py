"""The whole way: real processes, a real database, from a task's row to what its function did."""
