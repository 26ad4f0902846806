"""Measure sisy beside its rivals: the same works for all, every job counted.

`python -m benchmarks` makes an environment for each contender, runs the works, and writes the results: JSON, a table
and a chart for the documentation. What each file is for:

- `contenders/`: one contender a file: its job, its processes, its way to enqueue and to schedule
- `works`: what is measured, the same for all of them
- `effects`: how a job leaves its trace, outside of every measured database
- `stage`: starts a contender's processes, waits for effects, reads the meters
- `side`: what runs in a contender's own environment
- `environments`, `settings`, `stores`: the places where it all happens
- `figures`, `report`, `chart`: from measurements to pages
"""
