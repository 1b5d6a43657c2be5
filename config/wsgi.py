"""The WSGI application that gunicorn serves."""

import os
import sys

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
# Beside one busy Python thread the default of 5 ms makes every database answer wait (docs/decisions/003).
sys.setswitchinterval(0.0005)

application = get_wsgi_application()
