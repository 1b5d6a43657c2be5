"""All settings, from the environment only (docs/settings.md). Each secret may also be given as NAME_FILE."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from pathlib import Path

import plotly
from environs import Env

from config import database, mail, openid

env = Env()

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(env.str("TOUCHSTONE_DATA", str(BASE_DIR / "var"))).resolve()


def secret(name: str) -> str | None:
    """The secret from NAME, or from the file that NAME_FILE names."""
    path = env.str(f"{name}_FILE", None)
    return Path(path).read_text().strip() if path else env.str(name, None)


def own_secret_key() -> str:
    """Django's signing key: given, or made once and kept in the data folder (mode 0600)."""
    given = secret("TOUCHSTONE_SECRET_KEY")
    if given:
        return given
    path = DATA_DIR / "keys" / "web.secret"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_text(secrets.token_urlsafe(50))
        draft.chmod(0o600)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_text()


def backlog_for(memory_bytes: int, seal_events: int) -> int:
    """How many records may wait to be sealed on a machine with so much memory.

    Each process that answers questions holds them, at 2 KiB each: two of the web, steward and worker together take a quarter.
    """
    return max(2 * seal_events, min(2_000_000, memory_bytes // (4 * 4 * 2048)))


DEBUG = False
SECRET_KEY = own_secret_key()
ALLOWED_HOSTS = env.list("TOUCHSTONE_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("TOUCHSTONE_ORIGINS", [])
TRUSTED_PROXIES = env.int("TOUCHSTONE_PROXIES", 0)
ORIGIN = env.str("TOUCHSTONE_ORIGIN", "touchstone.local/log")
CHECKPOINT_SIGNER = env.str("TOUCHSTONE_CHECKPOINT_SIGNER", "").split()
FSCK_HOURS = env.float("TOUCHSTONE_FSCK_HOURS", 24)
SEAL_EVENTS = env.int("TOUCHSTONE_SEAL_EVENTS", 5_000)
SEAL_SECONDS = env.int("TOUCHSTONE_SEAL_SECONDS", 300)
BACKLOG_EVENTS = env.int(
    "TOUCHSTONE_BACKLOG_EVENTS", backlog_for(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), SEAL_EVENTS)
)
COVERAGE_SECONDS = env.float("TOUCHSTONE_COVERAGE_SECONDS", 60.0)
COVERAGE_GRACE_SECONDS = env.float("TOUCHSTONE_COVERAGE_GRACE_SECONDS", 60.0)
SILENCE_SECONDS = env.float("TOUCHSTONE_SILENCE_SECONDS", 180.0)
CHECKPOINT_SECONDS = env.float("TOUCHSTONE_CHECKPOINT_SECONDS", 1.0)
PUBLIC_LOG = env.bool("TOUCHSTONE_PUBLIC_LOG", False)
QUERY_SECONDS = env.int("TOUCHSTONE_QUERY_SECONDS", 20)
TSA: list[str] = env.list("TOUCHSTONE_TSA", [])
TSA_HOURS = env.float("TOUCHSTONE_TSA_HOURS", 1.0)
TSA_LATE_HOURS = env.float("TOUCHSTONE_TSA_LATE_HOURS", 3.0)
TSA_ROOTS = env.str("TOUCHSTONE_TSA_ROOTS", "/etc/ssl/certs/ca-certificates.crt")
WITNESS_POLICY = env.str("TOUCHSTONE_WITNESS_POLICY", "")
WITNESS_SECONDS = env.float("TOUCHSTONE_WITNESS_SECONDS", 60.0)
WITNESS_LATE_SECONDS = env.float("TOUCHSTONE_WITNESS_LATE_SECONDS", 3600.0)
DROP_FOLDER = env.str("TOUCHSTONE_DROP_FOLDER", "")
DROP_MAIL = env.str("TOUCHSTONE_DROP_MAIL", "")
DROP_SECONDS = env.float("TOUCHSTONE_DROP_SECONDS", 3600.0)
REPORT_WHOLE = env.int("TOUCHSTONE_REPORT_WHOLE", 500_000)
REPORT_FOLDER = env.str("TOUCHSTONE_REPORT_FOLDER", "")
DEFAULT_FROM_EMAIL = env.str("TOUCHSTONE_MAIL_FROM", "touchstone@localhost")
globals().update(mail.settings(secret("EMAIL_URL")))
KEY_SECONDS = env.int("TOUCHSTONE_KEY_SECONDS", 3600)
GRACE_SECONDS = env.int("TOUCHSTONE_GRACE_SECONDS", 60)
BACKUP_DAYS = env.int("TOUCHSTONE_BACKUP_DAYS", None)
WAL_HOURS = env.int("TOUCHSTONE_WAL_HOURS", 24)
EMBEDDED = not env.str("DATABASE_URL", "")
PUBLIC_URL = env.str("TOUCHSTONE_URL", (CSRF_TRUSTED_ORIGINS or [""])[0]).rstrip("/")
MAINTENANCE_HOURS = env.str("TOUCHSTONE_WORKING_HOURS", "")
OPENID = openid.Provider(
    issuer=env.str("TOUCHSTONE_OIDC_ISSUER", "").strip(),
    client_id=env.str("TOUCHSTONE_OIDC_CLIENT_ID", "").strip(),
    client_secret=secret("TOUCHSTONE_OIDC_CLIENT_SECRET") or "",
    name=env.str("TOUCHSTONE_OIDC_NAME", "").strip() or openid.Provider.name,
)

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django_htmx",
    "rest_framework",
    "drf_spectacular",
    "csp",
    "procrastinate.contrib.django",
    "allauth",
    "allauth.account",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "lineage",
    "reports",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "config.statics.Packed",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "lineage.zones.ZoneMiddleware",
    "lineage.answers.ErrorMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "lineage.views.page_context",
            ]
        },
    }
]
DATABASES = {"default": database.settings(DATA_DIR, role=env.str("TOUCHSTONE_DB_ROLE", "web"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "lineage.User"
# allauth fetches and exchanges for us and keeps nothing: it has no tables here, no pages, no sign-up (docs/decisions/010).
MIGRATION_MODULES: dict[str, str | None] = {"account": None, "socialaccount": None}
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
SOCIALACCOUNT_REQUESTS_TIMEOUT = 5
LOGIN_URL = "/accounts/login/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/accounts/login/"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.ScryptPasswordHasher"]
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env.bool("TOUCHSTONE_HTTPS", False)
SESSION_COOKIE_AGE = 8 * 3600
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CSRF_FAILURE_VIEW = "lineage.views.csrf_failed"
DATA_UPLOAD_MAX_MEMORY_SIZE = 12 * 1024 * 1024
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:", "blob:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
}
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-gb"
USE_I18N = False
"""There is one language: each number on a page would be asked which."""
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static", ("plotly", str(Path(plotly.__file__).parent / "package_data"))]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "config.statics.Stamped"},
}
WHITENOISE_USE_FINDERS = True
WHITENOISE_MAX_AGE = 365 * 24 * 3600
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Touchstone",
    "VERSION": "0.1.0",
    "OAS_VERSION": "3.1.0",
    "DESCRIPTION": "Who touched which rows, for whom and by whose leave, as evidence that an auditor checks offline.",
    "SERVE_INCLUDE_SCHEMA": False,
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "stream": sys.stderr, "formatter": "line"}},
    # Django would write each failed request's address and exception, with the row keys and values in them.
    "loggers": {"django.request": {"level": "CRITICAL", "propagate": False}},
    "root": {"handlers": ["stderr"], "level": env.str("TOUCHSTONE_LOG_LEVEL", "WARNING")},
}
