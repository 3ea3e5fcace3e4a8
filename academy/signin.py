"""Sign-in: who the providers say somebody is, and the roster that says whether they get in and as what."""

from __future__ import annotations

import html
import json
import urllib.request
from pathlib import Path
from typing import Any

from jupyterhub.auth import Authenticator
from jupyterhub.authenticators.shared import SharedPasswordAuthenticator
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from tornado.web import HTTPError
from traitlets.config import Config

from academy.database import Database
from academy.messages import message
from academy.people import Person, normal_login, usable_login
from academy.settings import Settings, SettingsError
from grading.records import record

PROVIDER_TIMEOUT = 10.0  # seconds


class OnTheRoster(Authenticator):
    """Lets in whom the roster names (everybody when the settings open the door) and keeps groups and admin as it says."""

    academy: Settings
    database: Database

    def normalize_username(self, username: str) -> str:
        return normal_login(super().normalize_username(username))

    def person(self, login: str) -> Person | None:
        with self.database.read() as session:
            return session.get(Person, login)

    async def check_allowed(self, username: str, authentication: Any = None) -> bool:
        if self.person(username) is None:
            if not self.academy.signin.open:
                raise Refusal("not-on-roster", login=username)
            if not usable_login(username):
                raise Refusal("signin-bad-login", login=username)
        return True

    async def run_post_auth_hook(self, handler: Any, auth_model: dict[str, Any]) -> dict[str, Any]:
        model = await super().run_post_auth_hook(handler, auth_model)
        if self.person(model["name"]) is None:
            self._welcome(model["name"])
        return {**model, **self._standing(model["name"])}

    def _welcome(self, login: str) -> None:
        """Put somebody on the roster who came through the open door."""
        try:
            with self.database.write() as session:
                session.add(Person(login=login, name=login))
                record(session, login, "person-added", login=login)
        except IntegrityError:
            self.log.info("%s signed in twice at once", login)

    async def refresh_user(self, user: Any, handler: Any = None, **_: Any) -> bool | dict[str, Any]:
        """Read the roster again, so that a change acts without a new sign-in and a removed person is out."""
        if self.person(user.name) is None:
            if handler is not None and not hasattr(handler, "_token_authenticated"):
                handler._token_authenticated = False  # JupyterHub 6.1 reads it next and has set it for tokens alone
            return False
        return {"name": user.name, **self._standing(user.name)}

    def _standing(self, login: str) -> dict[str, Any]:
        person = self.person(login)
        return {"groups": person.groups() if person else [], "admin": bool(person and person.role == "operator")}


class DemoAuthenticator(OnTheRoster, SharedPasswordAuthenticator):
    """One password for everybody of a trial, and another for operators."""

    async def authenticate(self, handler: Any, data: dict[str, str]) -> Any:
        if not data["password"].isascii():  # typed with the Hangul keyboard on; the comparison takes ASCII alone
            return None
        with self.database.read() as session:
            self.admin_users = set(session.scalars(select(Person.login).where(Person.role == "operator")))
        return await super().authenticate(handler, data)


class Refusal(HTTPError):
    """The page that says in both languages why somebody does not get in: who has not signed in has chosen none."""

    def __init__(self, key: str, **values: object) -> None:
        texts = {language: str(message(key, language, **values)) for language in ("ko", "en")}
        super().__init__(403, " / ".join(texts.values()))
        self.jupyterhub_html_message = "".join(
            f'<p lang="{language}">{html.escape(text)}</p>' for language, text in texts.items()
        )


def demo_password(settings: Settings) -> str:
    """The password of a trial: from the file that settings name, else made on first use.

    Raises:
        SettingsError: the file cannot be read, or what it holds is no password.
    """
    file = settings.signin.demo_password_file
    if file is None:
        return settings.secret("demo-password")[:12]
    password = _read_secret("demo_password_file", file)
    if len(password) < 8 or not password.isascii():
        raise SettingsError(f"signin.demo_password_file = {file}: the password must have at least 8 characters, all ASCII")
    return password


def operator_password(settings: Settings) -> str:
    """The operators' password where the provider is demo; JupyterHub wants 32 characters."""
    return settings.secret("operator-password")[:32]


def configure(c: Any, settings: Settings) -> None:
    """Set the hub's authenticator.

    Raises:
        SettingsError: a secret file that cannot be read, an issuer that does not answer.
    """
    base = _provider(c, settings)
    c.JupyterHub.authenticator_class = type(
        "RosterAuthenticator",
        (base,) if issubclass(base, OnTheRoster) else (OnTheRoster, base),
        {"academy": settings, "database": Database(settings.database_url)},
    )
    c.Authenticator.manage_groups = True
    c.Authenticator.auth_refresh_age = 60
    c.Authenticator.auth_refresh_strict = True  # a removed person's tokens are refused too
    c.Authenticator.refresh_pre_spawn = True
    c.Authenticator.enable_auth_state = False
    c.Authenticator.delete_invalid_users = False


def check(settings: Settings) -> None:
    """See that the sign-in can be set up, before anything starts.

    Raises:
        SettingsError: as ``configure`` does.
    """
    _provider(Config(), settings)


def _provider(c: Any, settings: Settings) -> type[Authenticator]:
    signin = settings.signin
    if signin.provider == "demo":
        c.SharedPasswordAuthenticator.user_password = demo_password(settings)
        c.SharedPasswordAuthenticator.admin_password = operator_password(settings)
        return DemoAuthenticator

    from oauthenticator.generic import GenericOAuthenticator
    from oauthenticator.github import GitHubOAuthenticator
    from oauthenticator.google import GoogleOAuthenticator

    c.OAuthenticator.client_id = signin.client_id
    assert signin.client_secret_file is not None  # the settings check it
    c.OAuthenticator.client_secret = _read_secret("client_secret_file", signin.client_secret_file)
    c.OAuthenticator.oauth_callback_url = f"{settings.public_url}/hub/oauth_callback"
    c.OAuthenticator.auth_state_groups_key = lambda _state: ()  # the roster says them; else each sign-in logs an error
    if signin.provider == "github":
        base: type[Authenticator] = GitHubOAuthenticator
    elif signin.provider == "google":
        base = GoogleOAuthenticator
    else:
        base = GenericOAuthenticator
        preset = {"kakao": KAKAO, "naver": NAVER}.get(signin.provider) or _discover(signin.url)
        c.GenericOAuthenticator.update(preset)
    if signin.username_claim:
        c[base.__name__].username_claim = _claim(signin.username_claim)
    return base


def _read_secret(key: str, path: Path) -> str:
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"signin.{key} = {path}: cannot be read ({error})") from error
    if not secret:
        raise SettingsError(f"signin.{key} = {path}: the file is empty")
    return secret


def _claim(path: str) -> Any:
    """Reads a claim, also one inside another as Naver's ``response.email``; an address must not be marked as unverified."""

    def claim(user: dict[str, Any]) -> str:
        *parents, last = [path] if path in user else path.split(".")
        holder: Any = user
        for part in parents:
            holder = holder.get(part) if isinstance(holder, dict) else None
        holder = holder if isinstance(holder, dict) else {}
        unverified = last == "email" and holder.get("email_verified") in (False, "false")
        if unverified or not holder.get(last):
            raise Refusal("signin-no-login")
        return str(holder[last])

    return claim


def _kakao_email(user: dict[str, Any]) -> str:
    """Kakao gives out addresses that nobody has verified too; only a verified one says who somebody is."""
    account = user.get("kakao_account") or {}
    if not (account.get("email") and account.get("is_email_valid") and account.get("is_email_verified")):
        raise Refusal("signin-no-login")
    return str(account["email"])


# developers.kakao.com, "REST API: Kakao Login"
KAKAO: dict[str, Any] = {
    "login_service": "Kakao",
    "authorize_url": "https://kauth.kakao.com/oauth/authorize",
    "token_url": "https://kauth.kakao.com/oauth/token",
    "userdata_url": "https://kapi.kakao.com/v2/user/me",
    "scope": ["account_email"],
    "username_claim": _kakao_email,
    "basic_auth": False,
}
# developers.naver.com, "Login API specification"
NAVER: dict[str, Any] = {
    "login_service": "NAVER",
    "authorize_url": "https://nid.naver.com/oauth2.0/authorize",
    "token_url": "https://nid.naver.com/oauth2.0/token",
    "userdata_url": "https://openapi.naver.com/v1/nid/me",
    "scope": [],
    "username_claim": _claim("response.email"),
    "basic_auth": False,
}


def _discover(issuer: str) -> dict[str, Any]:
    """What an OpenID Connect provider says of itself."""
    url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    if not url.startswith(("https://", "http://")):
        raise SettingsError(f"signin.url = {issuer!r}: must start with https://")
    try:
        with urllib.request.urlopen(url, timeout=PROVIDER_TIMEOUT) as answer:  # noqa: S310  (scheme checked above)
            found = json.load(answer)
        if found["issuer"].rstrip("/") != issuer.rstrip("/"):
            raise ValueError(f"it calls itself {found['issuer']}")
        return {
            "login_service": "OpenID Connect",
            "authorize_url": found["authorization_endpoint"],
            "token_url": found["token_endpoint"],
            "userdata_url": found["userinfo_endpoint"],
            "scope": ["openid", "profile", "email"],
            "username_claim": _claim("preferred_username"),
            "basic_auth": "client_secret_post" not in found.get("token_endpoint_auth_methods_supported", []),
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise SettingsError(f"signin.url = {issuer!r}: {url} is not an OpenID Connect provider's ({error})") from error
