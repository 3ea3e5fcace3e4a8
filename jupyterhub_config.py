"""The whole deployment, wired on one page. What can be set stands in ``academy.toml``; see ``academy/settings.py``."""

import sys

from sqlalchemy import select

from academy import network, profiles, proxy, settings, signin, spawner
from academy.database import Database
from academy.pages import hub as pages
from academy.people import FOUNDERS, STAFF_ROLES, Enrollment, Person

c = get_config()  # noqa: F821
academy = settings.load()
database = Database(academy.database_url)

# People: who gets in, and what they see.
signin.configure(c, academy)
pages.configure(c, academy)

# Addresses: the proxy is public; the hub listens where containers reach it, else on this machine alone.
c.JupyterHub.bind_url = f"http://{academy.hub.address}:{academy.hub.port}"
c.JupyterHub.hub_ip = network.internal_address(academy)
c.JupyterHub.hub_port = academy.hub.hub_port
if academy.hub.public_url:
    c.JupyterHub.public_url = academy.public_url
c.ConfigurableHTTPProxy.command = proxy.command()
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{academy.hub.proxy_api_port}"
c.ConfigurableHTTPProxy.auth_token = academy.secret("proxy-token")
c.ConfigurableHTTPProxy.pid_file = str(academy.data / "proxy.pid")

# State: servers outlive the hub, and a restarted hub finds them in its database.
c.JupyterHub.db_url = academy.hub_database_url.replace("postgresql://", "postgresql+psycopg://", 1)
c.JupyterHub.cookie_secret = bytes.fromhex(academy.secret("cookie-secret"))
c.JupyterHub.cleanup_servers = False

# Servers: one a person, and named ones for founders (sandboxes) and staff (grade-COURSE).
c.JupyterHub.spawner_class = spawner.spawner_class(academy)
c.JupyterHub.allow_named_servers = True
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}  # everyone sees the page with the progress
c.Spawner.default_url = "/lab"
c.Spawner.start_timeout = int(academy.spawner.start_timeout) + 15  # ours ends first and says why
c.Spawner.http_timeout = 30


def named_server_limit(handler):
    """How many named servers whoever asks may have; services ask for the people whom their roles name."""
    user = handler.current_user
    with database.read() as session:
        person = session.get(Person, user.name) if user else None
    return profiles.most_named_servers(academy, person) if person else academy.spawner.named_servers


c.JupyterHub.named_server_limit_per_user = named_server_limit

# Rights: each role holds what it uses and nothing else.
with database.read() as session:
    staffed = session.scalars(select(Enrollment.course).where(Enrollment.role.in_(STAFF_ROLES)).distinct()).all()
PROBE = "academy-health"  # the person whose server `academy health` starts
c.JupyterHub.custom_scopes = {
    spawner.STAFF_SCOPE: {"description": "Act as staff in the courses whose staff one is."},
}
c.JupyterHub.load_roles = [
    {"name": "user", "scopes": ["self", spawner.API_SCOPE]},
    {
        "name": spawner.STAFF_ROLE,
        "scopes": [spawner.STAFF_SCOPE],
        "groups": [f"formgrade-{course}" for course in staffed],
    },
    {"name": "academy-founder", "scopes": ["shares!user", "read:users:name"], "groups": [FOUNDERS]},
    pages.role(),
    {
        "name": "academy-culler",
        "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
        "services": ["culler"],
    },
    {"name": "academy-pool", "scopes": ["servers"], "services": ["pool"]},  # starts and stops them by the pool's rules
    {
        "name": "academy-health",
        "scopes": [f"{scope}!user={PROBE}" for scope in ("admin:users", "servers", "access:servers", "tokens")],
        "services": ["health"],
    },
]
c.JupyterHub.services = [
    {**pages.service(academy), "timeout": 2},  # seconds that the hub's start waits for them
    {"name": "health", "api_token": academy.secret("health-token"), "display": False},
    {"name": "pool", "api_token": academy.secret("pool-token"), "display": False},
    {
        "name": "culler",
        "command": [sys.executable, "-m", "jupyterhub_idle_culler", f"--timeout={academy.hub.idle_hours * 3600:.0f}"],
        "display": False,
    },
]
