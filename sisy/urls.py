"""Addresses for pages outside of the admin: `path("sisy/", include("sisy.urls"))` in the project's urls.py.

Needed for the template tag sisy_job only; the admin's pages come with the admin.
"""

from django.urls import path

from sisy import views

app_name = "sisy"
urlpatterns = [path("job/<str:tokens>/", views.job, name="job")]
