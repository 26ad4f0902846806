"""The demo's pages and the admin."""

from django.contrib import admin
from django.urls import include, path

from sisy.demo import views

urlpatterns = [
    path("", views.index, name="index"),
    path("reports/<uuid:key>/", views.report, name="report"),
    path("reports/<uuid:key>.csv", views.report_as_csv, name="report-csv"),
    path("sisy/", include("sisy.urls")),
    path("admin/", admin.site.urls),
]
