"""A Django project that uses sisy: it watches the machine it runs on, and does jobs for visitors of a web page.

- `python -m sisy.demo` runs all of it in one process, on a database that is deleted at the end
- `python -m sisy.demo.manage COMMAND` is its manage.py; the Procfile and deploy/ run it in three processes on Redis
- tasks.py and models.py have what is run, migrations/0002_tasks.py says when
"""
