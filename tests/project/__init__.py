"""The Django project that the tests live in; see settings.py for its environment variables."""
