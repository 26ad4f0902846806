"""The sockets of pages that are watched: hints that rows changed, never the rows themselves.

hub.py hears what changes, once a process; sockets.py passes it on to browsers; guard.py says who may connect; jobs.py
lets a visitor watch one run. The pages then fetch what they show over HTTP, where permissions are checked.
"""
