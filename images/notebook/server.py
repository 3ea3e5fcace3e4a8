"""Start the notebook server in half the time: what only a hub needs stays out, and the garbage collector out of the way.

``jupyterhub.singleuser`` names a few classes of the hub's database and handlers, and so loads SQLAlchemy and Alembic, which no
notebook server uses. They are stand-ins while it is imported, and gone afterwards: whoever imports the real ones gets them.
"""

import gc
import os
import re
import sys
import threading
from types import ModuleType

HUB_ONLY = ("jupyterhub.orm", "jupyterhub.handlers", "jupyterhub.handlers.pages", "sqlalchemy", "sqlalchemy.exc")


class StandIn(ModuleType):
    """A module in which every name is a class that nothing is an instance of."""

    __path__ = ()

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (Exception,), {})


gc.disable()  # a start makes hundreds of thousands of objects and no garbage
collect_again = threading.Timer(30, gc.enable)
collect_again.daemon = True
collect_again.start()
sys.modules.update((name, StandIn(name)) for name in HUB_ONLY)
# aiohttp parses all certificate authorities twice as it is imported; without the bundle OpenSSL looks them up one by one.
environment = dict(os.environ)
os.environ["SSL_CERT_FILE"] = os.devnull
from jupyterhub.singleuser import extension, main  # noqa: E402
from tornado.web import HTTPError  # noqa: E402

os.environ.pop("SSL_CERT_FILE")
os.environ.update(environment)
for name in HUB_ONLY:
    del sys.modules[name]

OWNER = os.environ.get("JUPYTERHUB_USER", "")
SHOWN = re.compile(re.escape(os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "/")) + r"proxy/\d+(/|$)")


class Visitors(extension.JupyterHubIdentityProvider):
    """Whoever the owner shows a prototype to may reach programs on ports of this server, and nothing else of it.

    JupyterHub's shares open a whole server, JupyterLab and its terminals too.
    """

    async def get_user(self, handler):
        user = await super().get_user(handler)
        if user is None or user.hub_user.get("kind") != "user" or user.username == OWNER:
            return user
        if SHOWN.match(handler.request.path):
            return user

        def refuse(*_args, **_options):
            raise HTTPError(403, "Only the programs that this server's owner shows can be opened here.")

        handler._jupyterhub_user = None
        handler.redirect = refuse
        return None


extension.JupyterHubIdentityProvider = Visitors
sys.exit(main())
