"""A Django project in one file, with a sandbox for each visitor's name, previewed at hosts of its own.

Run it, and open http://localhost:8000/ada: ``uvicorn examples.django_app:application``
"""

from __future__ import annotations

import os

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

from examples.echo import start
from sandcove import AsyncSandbox, proxy_to_sandbox

HOSTNAME = os.environ.get("PREVIEWS", "localhost:8000")

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["localhost"])


async def open_sandbox(request: HttpRequest, name: str) -> JsonResponse:
    """The URL of what runs in the sandbox of this name; started if it does not run."""
    sandbox = AsyncSandbox(name)
    if request.method == "DELETE":
        await sandbox.destroy()
        return JsonResponse({})
    await start(sandbox)
    exposed = {port.port: port for port in await sandbox.get_exposed_ports(hostname=HOSTNAME)}
    preview = exposed.get(3000) or await sandbox.expose_port(3000, hostname=HOSTNAME)
    return JsonResponse({"url": preview.url})


urlpatterns = [path("<slug:name>", open_sandbox)]
application = proxy_to_sandbox(get_asgi_application(), hostname=HOSTNAME)
