"""The hub's own pages (sign-in, start, progress, errors) in the academy's look and in their reader's language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from sqlalchemy.exc import SQLAlchemyError
from traitlets.config import Config

from academy import i18n
from academy.database import Database
from academy.network import internal_address
from academy.pages.hubapi import CLIENT_ID, PREFIX, SCOPES
from academy.people import Person
from academy.settings import Profile, Settings
from academy.vouchers.ledger import Account
from academy.vouchers.records import GPU_HOUR

HERE = Path(__file__).parent


def configure(c: Config, settings: Settings) -> None:
    """Give the hub our templates, and tell them the reader's language."""
    c.JupyterHub.template_paths = [str(HERE / "hub_templates")]
    c.JupyterHub.template_vars = {
        "frame_css": _static("frame.css"),
        "academy_css": _static("academy.css"),  # inline: the sign-in page looks right when the pages are down, too
        "academy_logo": _static("logo.svg"),
        "academy_titles": settings.academy.title,
        "academy_prefix": PREFIX,
        "languages": i18n.LANGUAGES,
        "isolated": settings.docker,
    }
    c.JupyterHub.default_url = f"{PREFIX}/"
    teach_language(settings)


def service(settings: Settings) -> dict[str, Any]:
    """The pages as a service of the hub (started by us, not by the hub)."""
    return {
        "name": "academy",
        "url": f"http://{internal_address(settings)}:{settings.hub.pages_port}",
        "api_token": settings.secret("pages-token"),
        "oauth_client_id": CLIENT_ID,
        "oauth_no_confirm": True,
        "oauth_client_allowed_scopes": SCOPES,
        "display": False,
    }


def role() -> dict[str, Any]:
    """What the service itself may ask the hub: how many servers run."""
    return {"name": "academy-pages", "scopes": ["list:users", "read:servers"], "services": ["academy"]}


def profile_cards(profiles: Mapping[str, Profile], language: str, accounts: Sequence[Account] = ()) -> str:
    """The form of the hub's start page: one card a profile, and of several vouchers which pays; ``profile``, ``voucher``."""
    env = Environment(loader=FileSystemLoader(HERE / "hub_templates"), autoescape=True)
    template = env.get_template("profile_cards.html")
    return template.render(
        profiles=profiles, accounts=accounts, hour=GPU_HOUR, language=language, _=partial(i18n.translate, language)
    )


def teach_language(settings: Settings) -> None:
    """Add ``language`` and ``_`` to what the hub's templates know.

    JupyterHub offers no hook here that sees the request: ``template_vars`` get the user at most, and nobody is signed in on the
    sign-in page. So the one property that gathers a template's names is extended.
    """
    from jupyterhub.handlers.base import BaseHandler

    stock = getattr(BaseHandler.template_namespace, "academy_stock", BaseHandler.template_namespace.fget)
    database = Database(settings.database_url)

    class Namespace(property):
        academy_stock = staticmethod(stock)

    def template_namespace(handler: Any) -> dict[str, Any]:
        language = reader_language(handler, settings, database)
        return {**stock(handler), "language": language, "_": partial(i18n.translate, language), "here": handler.request.uri}

    BaseHandler.template_namespace = Namespace(template_namespace)


def reader_language(handler: Any, settings: Settings, database: Database) -> str:
    """The language of whoever sent a request to the hub: their cookie's, else their saved one, else the academy's."""
    cookie = handler.get_cookie(i18n.LANGUAGE_COOKIE)
    if cookie in i18n.LANGUAGES:
        return str(cookie)
    saved = None
    if user := handler.current_user:
        try:
            with database.read() as session:
                person = session.get(Person, user.name)
                saved = person.language if person else None
        except SQLAlchemyError:
            handler.log.warning("The language of %s is unknown: the academy's database does not answer", user.name)
    return i18n.known(saved, settings.academy.language)


def _static(name: str) -> str:
    return (HERE / "static" / name).read_text(encoding="utf-8")
