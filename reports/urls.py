"""The addresses of the reports, below /reports/."""

from django.urls import path, re_path

from reports import acts, desk, exception_views, review_views, schedule_views, views

urlpatterns = [
    path("", views.reports, name="reports"),
    path("ask", views.ask, name="report-ask"),
    path("policy", views.policy, name="policy"),
    path("sign-off/", review_views.sign_offs, name="sign-offs"),
    path("sign-off/plan", review_views.plan, name="sign-off-plan"),
    path("<int:report_id>/sign-off", review_views.sign_off, name="report-sign-off"),
    path("new/", desk.build, name="report-new"),
    path("verify/", desk.verify, name="report-verify"),
    path("schedules/", schedule_views.schedules_page, name="schedules"),
    path("schedules/<int:number>/", schedule_views.schedule_page, name="schedule"),
    path("calendar/", schedule_views.calendar_page, name="report-calendar"),
    path("<int:report_id>/", views.report, name="report"),
    path("<int:report_id>/override", acts.override, name="report-override"),
    path("<int:report_id>/supplement", acts.supplement, name="report-supplement"),
    path("<int:report_id>/redraw", views.redraw, name="report-redraw"),
    path("<int:report_id>/exceptions", exception_views.say, name="report-exceptions"),
    path("<int:report_id>/judgement", exception_views.judge, name="report-judgement"),
    re_path(r"^(?P<report_id>\d+)/file\.(?P<form>pdf|json|zip)$", views.download, name="report-file"),
    path("<int:report_id>/<slug:test_id>.csv", views.spreadsheet, name="report-csv"),
]
