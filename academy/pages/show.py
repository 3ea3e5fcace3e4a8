"""Showing a prototype: a founder lets chosen people open programs on ports of a sandbox, and takes that back."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse, Response
from starlette.datastructures import FormData

from academy.i18n import mark
from academy.messages import AcademyError
from academy.pages import views
from academy.pages.hubapi import PREFIX, HubRefused, user_path
from academy.pages.render import done
from academy.pages.visit import Visit, fresh_visit, visit
from academy.people import Person, normal_login
from academy.profiles import GRADING

router = APIRouter()

PORTS = range(1024, 65536)
PORT = 7860  # Gradio's; Streamlit takes 8501, uvicorn 8000


def may_show(visit: Visit) -> bool:
    return visit.person.role == "founder"


@router.get("/servers/{name}/show")
async def show(name: str, visit: Visit = Depends(fresh_visit)) -> HTMLResponse:
    return await _page(name, visit)


async def _page(name: str, visit: Visit, status: int = 200, problem: str = "", login: str = "") -> HTMLResponse:
    _own(name, visit)
    port = _port(visit.request.query_params.get("port", "")) or PORT
    shown = await visit.pages.hub.shown_to(visit.session.token, visit.session.login, name)
    people = await visit.read(lambda db: {login: _name(db.get(Person, login)) for login in shown})
    link = f"{visit.settings.public_url}{PREFIX}/shown/{visit.session.login}/{name}/{port}"
    return visit.page("show.html", status, name=name, people=people, port=port, link=link, problem=problem, login=login)


def _own(name: str, visit: Visit) -> None:
    """A sandbox of a founder's own; anything else does not exist."""
    if not may_show(visit) or not name or name not in visit.identity.servers or name.startswith(GRADING):
        raise AcademyError("page-missing", status=404)


def _name(person: Person | None) -> str:
    return person.name if person else ""


def _address(name: str, form: FormData) -> str:
    return f"{PREFIX}/servers/{name}/show?port={_port(views.plain(form.get('port'))) or PORT}"


def _port(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and int(text) in PORTS else None


@router.post("/servers/{name}/show")
async def show_to(name: str, visit: Visit = Depends(fresh_visit)) -> Response:
    form = await visit.form()
    _own(name, visit)
    login = normal_login(views.plain(form.get("login")))
    known = await visit.read(lambda db: db.get(Person, login) is not None)
    if not known or login == visit.session.login:
        problem = mark("There is nobody else with this login in the academy.")
        return await _page(name, visit, 422, problem, login)
    try:
        await visit.pages.hub.show(visit.session.token, visit.session.login, name, login)
    except HubRefused as error:
        if "No such user" not in str(error.values.get("reason")):
            raise
        return await _page(
            name, visit, 422, mark("This person has not signed in to the academy yet. Ask them to do so once."), login
        )
    return visit.back(_address(name, form), done("%(login)s can open the link now.", login=login))


@router.post("/servers/{name}/withdraw")
async def withdraw(name: str, visit: Visit = Depends(fresh_visit)) -> Response:
    form = await visit.form()
    _own(name, visit)
    login = normal_login(views.plain(form.get("login")))
    await visit.pages.hub.withdraw(visit.session.token, visit.session.login, name, login)
    return visit.back(_address(name, form), done("%(login)s cannot open it any more.", login=login))


@router.get("/shown/{owner}/{name}/{port}")
async def shown(owner: str, name: str, port: int, visit: Visit = Depends(visit)) -> HTMLResponse:
    """What the link leads to: whose program it is, before it runs in the visitor's browser. The hub knows who may open it."""
    person = await visit.read(lambda db: db.get(Person, owner))
    if person is None or port not in PORTS:
        raise AcademyError("page-missing", status=404)
    return visit.page("shown.html", owner=person, name=name, address=user_path(owner, name, f"proxy/{port}/"))
