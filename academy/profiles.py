"""Which kinds of server a person may start under which name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from academy.gpus.inventory import Device
from academy.gpus.plan import suits
from academy.people import Person
from academy.settings import Profile, Settings

Kind = Literal["coursework", "sandbox", "grading"]
GRADING = "grade-"
_PLAIN = re.compile(r"^(?!.*-[0-9a-f]{10}$)[a-z0-9]+(-[a-z0-9]+)*$")


def kind_of(server_name: str) -> Kind:
    """What a server is for, by its name: the default one, ``grade-COURSE``, or any other."""
    if not server_name:
        return "coursework"
    return "grading" if course_of(server_name) else "sandbox"


def course_of(server_name: str) -> str:
    """The course of a grading server; nothing for other servers."""
    return server_name.removeprefix(GRADING) if server_name.startswith(GRADING) else ""


def profiles_for(
    settings: Settings, person: Person, server_name: str, devices: Sequence[Device] | None = None
) -> dict[str, Profile]:
    """The profiles that the person may start under this name, in the order of the settings.

    Args:
        devices: the GPUs that there are: profiles that none of them suits are left out.
    """
    kind, roles = kind_of(server_name), person.roles()
    if kind == "grading":
        role = person.role_in(course_of(server_name))
        roles = {role} if role and person.staff_of(course_of(server_name)) else set()
    return {
        key: profile
        for key, profile in settings.profiles.items()
        if profile.kind == kind and roles & set(profile.roles) and (devices is None or _there(profile, devices))
    }


def _there(profile: Profile, devices: Sequence[Device]) -> bool:
    return profile.gpu == "none" or any(suits(device, profile.gpu, profile.gpu_memory_mb) for device in devices)


def most_named_servers(settings: Settings, person: Person) -> int:
    """How many named servers the person may have: none without a profile for one.

    The hub reads 0 as "no limit", hence 1 for people without: whatever name they try, the spawner refuses it.
    """
    sandbox = profiles_for(settings, person, "sandbox")
    staff = any(person.staff_of(enrollment.course) for enrollment in person.enrollments)
    return settings.spawner.named_servers if sandbox or staff else 1


def chosen(options: Mapping[str, Any], key: str = "profile") -> str:
    """The profile (or voucher) that a form or an API request asks for; nothing when it leaves the choice to us."""
    value = options.get(key) or ""
    if isinstance(value, list):
        value = value[0] if value else ""
    return str(value)


def slug(text: str) -> str:
    """A name for Docker and for folders: the text itself where it is plain, else its plain letters and a digest.

    Two texts never share one, no slug holds ``--``, and any script works: ``홍길동`` -> ``u-0c2b9bbd76``.
    """
    if _PLAIN.match(text) and len(text) <= 40:
        return text
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:20].strip("-") or "u"
    return f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"
