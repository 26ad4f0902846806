"""The admin, where sisy's pages are, and the addresses for visitors' own jobs."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [path("admin/", admin.site.urls), path("sisy/", include("sisy.urls"))]
