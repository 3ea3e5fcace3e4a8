"""GPUs for their users: one's own, the line, the lessons that booked some; the operator's devices; figures for Prometheus."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from babel.dates import format_date
from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session as Read
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from academy.database import now
from academy.gpus import booking, inventory, pool
from academy.gpus.inventory import Device
from academy.gpus.plan import Kind
from academy.gpus.records import Booking, Held, Lease, Reading, Wait
from academy.i18n import field_time, mark, translate
from academy.messages import AcademyError
from academy.pages import views
from academy.pages.hubapi import PREFIX
from academy.pages.render import COMMON_HEADERS, done
from academy.pages.visit import Pages, Visit, poll, visit
from academy.settings import Profile, Settings
from academy.vouchers import ledger
from academy.vouchers.records import GPU_HOUR, Voucher

router = APIRouter(prefix="/gpus")

BOOKED = mark("A lesson has booked this GPU.")
IDLE = mark("This GPU has done nothing for a while.")
USED_UP = mark("The voucher is running out.")
UNTIL = mark("until %(time)s")
KEEP = mark("Keep it, I am thinking")
LEFT = mark("%(hours)s GPU-hours left")
LOW = mark("Voucher %(number)s: %(left)s GPU-hours are left.")
SAVE = mark("Save your work: this server stops at %(time)s.")
WAIT = 5000  # milliseconds between two looks
SPANS = {"day": timedelta(days=1), "week": timedelta(days=7)}
PLOT = (560, 60)  # pixels


@dataclass(frozen=True)
class Mine:
    """A GPU of the reader's own."""

    lease: Lease
    model: str
    server: str
    runs_out_at: datetime  # by the profile's longest run
    reading: Reading | None  # the last minute's
    keeps_left: int
    payer: ledger.Account | None

    def told(self, language: str, zone: str) -> dict[str, object]:
        """What its notebook shows, in the reader's language."""
        ends_at = self.lease.ends_at or self.runs_out_at
        why = {"booked": BOOKED, "idle": IDLE, "voucher": USED_UP}.get(self.lease.ends_why, "")
        clock = field_time(ends_at, zone)[11:]
        return {
            "server": self.server,
            "model": self.model,
            "ends_at": ends_at.isoformat(),
            "ends": translate(language, UNTIL, time=clock),
            "warning": f"{translate(language, why)} {translate(language, SAVE, time=clock)}" if why else "",
            "utilisation": self.reading.utilisation if self.reading else None,
            "memory_gb": round(self.reading.memory_mb / 1024, 1) if self.reading else None,
            "page": translate(language, mark("GPU page")),
            **self._paid(language),
            **({"keep": translate(language, KEEP)} if self.lease.ends_why == "idle" and self.keeps_left else {}),
        }

    def _paid(self, language: str) -> dict[str, object]:
        if self.payer is None:
            return {}
        left = f"{(self.payer.free + self.payer.held) / GPU_HOUR:.2f}"
        warning = translate(language, LOW, number=self.payer.voucher.number, left=left) if self.payer.low else ""
        return {"voucher": translate(language, LEFT, hours=left), "low": self.payer.low, "voucher_warning": warning}


@dataclass(frozen=True)
class Row:
    """A device as the operator sees it."""

    device: Device
    leases: list[Lease]
    reading: Reading | None
    plot: str  # an SVG path of utilisation, 0 to 100 % over PLOT
    held_plot: str  # and of the shares that were held


@router.get("")
async def page(visit: Visit = Depends(visit), span: str = "day", week: str = "") -> HTMLResponse:
    return await _page(visit, span, week)


@router.get("/live.json")
async def live(visit: Visit = Depends(poll), span: str = "day") -> Response:
    """The part of the page that changes by itself."""
    return visit.live("gpus_live.html", WAIT, **await visit.read(lambda db: _live(db, visit, span)))


@router.get("/mine.json")
async def mine(visit: Visit = Depends(poll)) -> Response:
    """What a notebook shows of its GPU; why and when it ends in the reader's language."""
    found = (await visit.read(lambda db: _live(db, visit, "day")))["mine"]
    zone = visit.settings.academy.timezone
    return JSONResponse([one.told(visit.language, zone) for one in found], headers=COMMON_HEADERS)


async def _page(
    visit: Visit, span: str = "day", week: str = "", status: int = 200, problem: str = "", form: FormData | None = None
) -> HTMLResponse:
    courses = _courses(visit)
    values = await visit.read(lambda db: _live(db, visit, span))
    days = await visit.read(lambda db: calendar(db, visit.settings, week))
    return visit.page(
        "gpus.html",
        status,
        days=days,
        before=_week(days[0][0] - timedelta(days=7)),
        after=_week(days[0][0] + timedelta(days=7)),
        today=now().astimezone(ZoneInfo(visit.settings.academy.timezone)).date(),
        weekday=lambda day: format_date(day, "M월 d일 (E)" if visit.language == "ko" else "EEE, d MMM", locale=visit.language),
        no_show=f"{visit.settings.gpus.no_show_minutes:g}",
        wait=WAIT,
        courses=[views.named_course(visit.settings, course, visit.language) for course in courses],
        titles={lesson.course: _title(visit, lesson.course) for _, lessons in days for lesson in lessons},
        may_cancel=lambda lesson: visit.operator or lesson.course in courses,
        profiles={
            key: profile.title[visit.language] for key, profile in visit.settings.profiles.items() if _of_lessons(profile)
        },
        problem=problem,
        form=form or {},
        **values,
    )


def _of_lessons(profile: Profile) -> bool:
    return profile.kind == "coursework" and profile.gpu != "none"


def _title(visit: Visit, course: str) -> str:
    return views.named_course(visit.settings, course, visit.language).title


def _courses(visit: Visit) -> list[str]:
    """The courses for which the reader books: those whose staff they are; operators for all that there are."""
    if visit.operator:
        return sorted(path.name for path in visit.settings.academy.courses.iterdir() if (path / "course.toml").is_file())
    return [e.course for e in visit.person.enrollments if visit.person.staff_of(e.course)]


def _live(db: Read, visit: Visit, span: str) -> dict[str, Any]:
    """What the live part of the page shows."""
    settings, at, login = visit.settings, now(), visit.session.login
    devices = inventory.devices(settings)
    known = {device.uuid: device for device in devices}
    latest = _latest(db, at)
    leases = list(db.scalars(select(Lease).where(Lease.holder.is_not(None)).order_by(Lease.granted_at)))
    places = pool.places(db, settings, devices, at)
    waits = {wait.holder: wait for wait in db.scalars(select(Wait))}
    line = [(waits[holder], place) for holder, place in places.items()]
    mine, payers = [], _payers(db, [lease.voucher_id for lease in leases if lease.login == login and lease.voucher_id])
    for lease in leases:
        profile = settings.profiles.get(lease.profile)
        if lease.login == login and lease.purpose == "server":
            model = known[lease.device].model if lease.device in known else "GPU"
            end = lease.granted_at + timedelta(hours=profile.hours if profile else 24)
            left = max(0, (profile.idle_keeps if profile else 0) - lease.keeps)
            payer = payers.get(lease.voucher_id or "")
            mine.append(Mine(lease, model, lease.server, end, latest.get(lease.device), left, payer))
    rows = [_row(db, device, leases, latest, SPANS.get(span, SPANS["day"]), at) for device in devices] if visit.operator else []
    waiting = [(wait, place) for wait, place in line if visit.operator or wait.login == login]
    total = sum(device.shares for device in devices)
    free = total - sum(lease.shares for lease in leases if lease.device in known)
    return {
        "mine": mine,
        "waiting": waiting,
        "rows": rows,
        "span": span,
        "total": total,
        "free": free,
        "plot_size": PLOT,
        "hour": GPU_HOUR,
    }


def _payers(db: Read, vouchers: list[str]) -> dict[str, ledger.Account]:
    found = db.scalars(select(Voucher).where(Voucher.id.in_(vouchers)))
    return {account.voucher.id: account for account in ledger.accounts(db, found)}


def _latest(db: Read, at: datetime) -> dict[str, Reading]:
    recent = select(Reading).where(Reading.at > at - timedelta(minutes=5)).order_by(Reading.at)
    return {reading.device: reading for reading in db.scalars(recent)}


def _row(db: Read, device: Device, leases: Sequence[Lease], latest: dict[str, Reading], span: timedelta, at: datetime) -> Row:
    wanted = select(Reading).where(Reading.device == device.uuid, Reading.at > at - span).order_by(Reading.at)
    readings = list(db.scalars(wanted))
    used = [(reading.at, reading.utilisation or 0) for reading in readings]
    held = [(reading.at, 100 * reading.held // device.shares) for reading in readings]
    holders = [lease for lease in leases if lease.device == device.uuid]
    return Row(device, holders, latest.get(device.uuid), curve(used, at, span), curve(held, at, span))


def curve(points: Sequence[tuple[datetime, int]], at: datetime, span: timedelta, buckets: int = 140) -> str:
    """An SVG path through the means of percentages over a span that ends now; where there are none it stands on the ground."""
    width, height = PLOT
    sums, counts = [0] * buckets, [0] * buckets
    for moment, percent in points:
        bucket = min(buckets - 1, max(0, int((1 - (at - moment) / span) * buckets)))
        sums[bucket] += percent
        counts[bucket] += 1
    heights = [height - height * sums[i] / counts[i] / 100 if counts[i] else height for i in range(buckets)]
    steps = "".join(f"L{width * i / (buckets - 1):.1f} {y:.1f}" for i, y in enumerate(heights))
    return f"M0 {height}{steps}L{width} {height}Z"


def calendar(db: Read, settings: Settings, week: str) -> list[tuple[date, list[Booking]]]:
    """The seven days of a week (any day of it as YYYY-MM-DD; "" for this week) with their lessons."""
    zone = ZoneInfo(settings.academy.timezone)
    try:
        day = date.fromisoformat(week)
    except ValueError:
        day = now().astimezone(zone).date()
    monday = day - timedelta(days=day.weekday())
    days = [monday + timedelta(days=number) for number in range(7)]
    begins = [datetime(one.year, one.month, one.day, tzinfo=zone) for one in (*days, days[-1] + timedelta(days=1))]
    lessons = booking.between(db, begins[0], begins[-1])
    return [
        (one, [lesson for lesson in lessons if lesson.starts_at < end and lesson.ends_at > begin])
        for one, (begin, end) in zip(days, pairwise(begins), strict=True)
    ]


def _week(day: date) -> str:
    return day.isoformat()


@router.post("/keep")
async def keep(visit: Visit = Depends(visit)) -> Response:
    """Keep it, I am thinking."""
    server = views.plain((await visit.form()).get("server"))
    holder = pool.holder_of(visit.session.login, server)
    try:
        left = await visit.write(lambda db: pool.keep(db, visit.settings, holder, now()))
    except AcademyError as error:
        return visit.failed(f"{PREFIX}/gpus", error)
    return visit.back(f"{PREFIX}/gpus", done("The GPU stays with you. You can do that %(left)s more times.", left=left))


@router.post("/lessons")
async def book(visit: Visit = Depends(visit)) -> Response:
    """Book a lesson, once or for several weeks."""
    form = await visit.form()
    course = views.plain(form.get("course"))
    if course not in _courses(visit):
        raise AcademyError("page-missing", status=404)
    zone, settings = ZoneInfo(visit.settings.academy.timezone), visit.settings
    try:
        begin, end = (
            datetime.fromisoformat(views.plain(form.get(name))).replace(tzinfo=zone) for name in ("starts_at", "ends_at")
        )
        places, weeks = int(views.plain(form.get("places"))), int(views.plain(form.get("weeks")) or 1)
    except ValueError:
        said = AcademyError("booking-times", hours=booking.LONGEST // timedelta(hours=1))
        return await _page(visit, status=422, problem=str(said.message(visit.language)), form=form)
    kind, profile = views.plain(form.get("kind")), views.plain(form.get("profile"))
    chosen: Kind = "share" if kind == "share" else "slice" if kind == "slice" else "whole"
    if profile not in settings.profiles or settings.profiles[profile].gpu != chosen:
        profile = ""
    devices, login = inventory.devices(settings), visit.session.login
    try:
        made = await visit.write(
            lambda db: booking.book(db, settings, devices, course, chosen, places, begin, end, login, now(), weeks, profile)
        )
    except AcademyError as error:
        return await _page(visit, "day", f"{begin:%Y-%m-%d}", 422, str(error.message(visit.language)), form)
    return visit.back(f"{PREFIX}/gpus?week={begin:%Y-%m-%d}", done("Lessons booked: %(count)s.", count=len(made)))


@router.get("/lessons/{lesson}/cancel")
async def confirm_cancel(lesson: str, visit: Visit = Depends(visit)) -> HTMLResponse:
    found = await visit.read(lambda db: _lesson(db, visit, lesson))
    return visit.page("cancel_lesson.html", lesson=found, course=_title(visit, found.course))


@router.post("/lessons/{lesson}/cancel")
async def cancel(lesson: str, visit: Visit = Depends(visit)) -> Response:
    following = bool((await visit.form()).get("following"))

    def run(db: Read) -> tuple[int, datetime]:
        found = _lesson(db, visit, lesson)
        return booking.cancel(db, found, visit.session.login, now(), following), found.starts_at

    count, begin = await visit.write(run)
    day = begin.astimezone(ZoneInfo(visit.settings.academy.timezone))
    return visit.back(f"{PREFIX}/gpus?week={day:%Y-%m-%d}", done("Lessons cancelled: %(count)s.", count=count))


def _lesson(db: Read, visit: Visit, lesson: str) -> Booking:
    found = db.get(Booking, lesson)
    if found is None or found.course not in _courses(visit):
        raise AcademyError("page-missing", status=404)
    if found.cancelled_at is not None or found.ends_at <= now():
        raise AcademyError("booking-over", status=409)
    return found


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """For Prometheus, which shows the secret ``metrics-token`` as a bearer token."""
    pages: Pages = request.app.state.pages
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    if not hmac.compare_digest(token.encode(), pages.settings.secret("metrics-token").encode()):
        raise AcademyError("page-missing", status=404)

    def read() -> str:
        with pages.database.read() as db:
            return exposition(db, pages.settings)

    return PlainTextResponse(await run_in_threadpool(read), media_type="text/plain; version=0.0.4; charset=utf-8")


def exposition(db: Read, settings: Settings) -> str:
    """The pool's figures in Prometheus's text format."""
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry, at = CollectorRegistry(), now()

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"academy_gpu_{name}", text, labels, registry=registry)

    shares = gauge("shares", "Shares that a device is cut into", "device", "model")
    held = gauge("shares_held", "Shares of a device that somebody holds", "device")
    for device in inventory.devices(settings):
        shares.labels(device.uuid, device.model).set(device.shares)
        held.labels(device.uuid).set(0)
    for held_one in db.scalars(select(Held)):
        held.labels(held_one.device).inc()
    used = gauge("utilisation_percent", "Utilisation in the last minute", "device")
    memory = gauge("memory_used_bytes", "Memory in use in the last minute", "device")
    for reading in _latest(db, at).values():
        if reading.utilisation is not None:
            used.labels(reading.device).set(reading.utilisation)
        memory.labels(reading.device).set(reading.memory_mb << 20)
    leases = gauge("leases", "Leases that live", "profile", "purpose")
    for lease in db.scalars(select(Lease).where(Lease.holder.is_not(None))):
        leases.labels(lease.profile, lease.purpose).inc()
    waiting = gauge("waiting", "People who wait", "kind")
    longest = gauge("longest_wait_seconds", "Since when the first of them waits", "kind")
    for wait in db.scalars(select(Wait).order_by(Wait.asked_at.desc())):
        waiting.labels(wait.kind).inc()
        longest.labels(wait.kind).set((at - wait.asked_at).total_seconds())
    booked = gauge("places_booked", "Places of lessons that are on now", "course")
    for lesson in booking.between(db, at, at + timedelta(seconds=1)):
        booked.labels(lesson.course).inc(lesson.places)
    return generate_latest(registry).decode()
