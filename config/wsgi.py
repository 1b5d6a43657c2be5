"""The WSGI application that gunicorn serves."""

import os
import sys

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
# Beside one busy Python thread the default of 5 ms makes every database answer wait (docs/decisions/003).
sys.setswitchinterval(0.0005)

pages = get_wsgi_application()

from config import garbage, lanes, serve  # noqa: E402 - once the settings are there
from lineage import gathering, intake_api  # noqa: E402

intake_api.line.connected = gathering.Shared()
application = lanes.Lanes(pages, serve.at_once()[0])
garbage.leave_loaded()
