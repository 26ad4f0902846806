"""Template tags: `{% load sisy %}`."""
