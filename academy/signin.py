"""Sign-in: who the providers say somebody is, and the roster that says whether they get in and as what."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from jupyterhub.auth import Authenticator
from jupyterhub.authenticators.shared import SharedPasswordAuthenticator
from sqlalchemy import select
from tornado.web import HTTPError

from academy.database import Database
from academy.messages import message
from academy.people import Person
from academy.settings import Settings, SettingsError

PROVIDER_TIMEOUT = 10.0  # seconds


class OnTheRoster(Authenticator):
    """Lets in whom the roster names (everybody when the settings open the door) and keeps groups and admin as it says."""

    academy: Settings
    database: Database

    def person(self, login: str) -> Person | None:
        with self.database.read() as session:
            return session.get(Person, login)

    async def check_allowed(self, username: str, authentication: Any = None) -> bool:
        if self.person(username) is None and not self.academy.signin.open:
            texts = [str(message("not-on-roster", language, login=username)) for language in ("ko", "en")]
            raise HTTPError(403, " / ".join(texts), reason="Not on the roster")
        return True

    async def run_post_auth_hook(self, handler: Any, auth_model: dict[str, Any]) -> dict[str, Any]:
        model = await super().run_post_auth_hook(handler, auth_model)
        if self.person(model["name"]) is None:
            with self.database.write() as session:
                session.add(Person(login=model["name"], name=model["name"]))
        return {**model, **self._standing(model["name"])}

    async def refresh_user(self, user: Any, handler: Any = None, **_: Any) -> bool | dict[str, Any]:
        """Read the roster again, so that a change acts without a new sign-in and a removed person is out."""
        if self.person(user.name) is None:
            return False
        return {"name": user.name, **self._standing(user.name)}

    def _standing(self, login: str) -> dict[str, Any]:
        person = self.person(login)
        return {"groups": person.groups() if person else [], "admin": bool(person and person.role == "operator")}


class DemoAuthenticator(OnTheRoster, SharedPasswordAuthenticator):
    """One password for everybody of a trial, and another for operators."""

    async def authenticate(self, handler: Any, data: dict[str, str]) -> Any:
        with self.database.read() as session:
            self.admin_users = set(session.scalars(select(Person.login).where(Person.role == "operator")))
        return await super().authenticate(handler, data)


def demo_password(settings: Settings) -> str:
    """The password of a trial: from the file that settings name, else made on first use."""
    file = settings.signin.demo_password_file
    return file.read_text().strip() if file else settings.secret("demo-password")[:12]


def operator_password(settings: Settings) -> str:
    """The operators' password where the provider is demo."""
    return settings.secret("operator-password")


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
    c.Authenticator.refresh_pre_spawn = True
    c.Authenticator.enable_auth_state = False
    c.Authenticator.delete_invalid_users = False


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
    c.OAuthenticator.client_secret = _client_secret(settings)
    c.OAuthenticator.oauth_callback_url = f"{settings.public_url}/hub/oauth_callback"
    if signin.username_claim:
        c.OAuthenticator.username_claim = signin.username_claim
    if signin.provider == "github":
        return GitHubOAuthenticator
    if signin.provider == "google":
        return GoogleOAuthenticator
    generic = {"kakao": KAKAO, "naver": NAVER}.get(signin.provider) or _discover(signin.url)
    for key, value in generic.items():
        if key != "username_claim" or not signin.username_claim:
            c.GenericOAuthenticator[key] = value
    if "." in signin.username_claim:
        c.OAuthenticator.username_claim = _nested(signin.username_claim)
    return GenericOAuthenticator


def _client_secret(settings: Settings) -> str:
    path = settings.signin.client_secret_file
    assert path is not None  # the settings check it
    try:
        return path.read_text().strip()
    except OSError as error:
        raise SettingsError(f"signin.client_secret_file = {path}: cannot be read ({error.strerror})") from error


def _nested(path: str) -> Any:
    """A claim inside another, as in Naver's ``response.email``."""

    def claim(user: dict[str, Any]) -> str:
        value: Any = user
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return str(value or "")

    return claim


def _kakao_email(user: dict[str, Any]) -> str:
    """Kakao gives out addresses that nobody has verified too; only a verified one says who somebody is."""
    account = user.get("kakao_account") or {}
    verified = account.get("is_email_valid") and account.get("is_email_verified")
    return str(account.get("email") or "") if verified else ""


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
    "username_claim": _nested("response.email"),
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
        return {
            "login_service": "OpenID Connect",
            "authorize_url": found["authorization_endpoint"],
            "token_url": found["token_endpoint"],
            "userdata_url": found["userinfo_endpoint"],
            "scope": ["openid", "profile", "email"],
            "username_claim": "preferred_username",
            "basic_auth": "client_secret_post" not in found.get("token_endpoint_auth_methods_supported", []),
        }
    except (OSError, ValueError, KeyError) as error:
        raise SettingsError(f"signin.url = {issuer!r}: {url} is not an OpenID Connect provider's ({error})") from error
