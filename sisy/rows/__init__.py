"""The rows below the transitions: Run and Worker, the database's clock, lean indexes.

`sisy.models` offers them to everybody else. They live below transitions/, and Task above it, because saving a Task is a
transition: that keeps the imports free of circles.
"""
