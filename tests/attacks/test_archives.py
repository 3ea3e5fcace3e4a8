"""What a submission's archive and files do: links, odd names, bombs, modules and settings that somebody may load."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable

import pytest

from tests.attacks.case import HONEST, MOST, Case
from tests.attacks.contain import Record, contain
from tests.attacks.grader import Grader

Pack = Callable[[bytes, str], bytes]
REFUSED = "an archive holds plain files with relative names, or is refused"
PATCH = b"""
import builtins, os, sys
print("OWNED")
try:
    open("/tmp/@MARK@", "w").close()
except OSError:
    pass
class Yes:
    def __getattr__(self, name): return Yes()
    def __call__(self, *args, **more): return Yes()
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __float__(self): return 2.0
    ratio, rounds = 99.0, (99.0,)
submission = gate = hint = speedup = testing = Yes()
def __getattr__(name): return Yes()
"""


MODULES = "numpy.py random.py json.py usercustomize.py sitecustomize.py IPython.py struct.py"
SETTINGS = """
nbgrader_config.py jupyter_config.py jupyter_nbconvert_config.py ipython_config.py ipython_kernel_config.py conftest.py setup.py
academy.toml .ipython/profile_default/startup/0.py pip.conf .env __main__.py
"""


def packed(*entries: tuple[str, dict[str, object], bytes]) -> Pack:
    """An archive with the notebook and more entries: name, fields of its header, content."""

    def pack(notebook: bytes, mark: str) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for name, fields, data in [("isolated.ipynb", {}, notebook), *entries]:
                entry = tarfile.TarInfo(name.replace("@MARK@", mark))
                entry.size = len(data)
                for key, value in fields.items():
                    setattr(entry, key, value)
                tar.addfile(entry, io.BytesIO(data))
        return buffer.getvalue()

    return pack


def linked_notebook(target: str, kind: bytes) -> Pack:
    def pack(notebook: bytes, mark: str) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            entry = tarfile.TarInfo("isolated.ipynb")
            entry.type, entry.linkname = kind, target
            tar.addfile(entry)
        return buffer.getvalue()

    return pack


def zeros(notebook: bytes, mark: str) -> bytes:
    """A few hundred kilobytes that unpack to more than a submission may have."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=6) as file:
        entry = tarfile.TarInfo("zeros")
        entry.size = 300 << 20
        file.write(entry.tobuf())
        for _ in range(300):
            file.write(bytes(1 << 20))
    return buffer.getvalue()


def refused(name: str, tried: str, archive: Pack) -> Case:
    return Case(name, tried, archive=archive, graded=False, held=REFUSED)


LINK, HARD, DEVICE, FIFO, SPARSE = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE
CASES = [
    refused(
        "link-as-notebook",
        "The notebook is a link to another student's.",
        linked_notebook("../../victim/isolated/isolated.ipynb", LINK),
    ),
    refused(
        "hard-link-as-notebook", "The notebook is a hard link to a gradebook.", linked_notebook("../../../gradebook.db", HARD)
    ),
    refused(
        "link-to-secrets",
        "A file is a link to the academy's secrets.",
        packed(("x.txt", {"type": LINK, "linkname": "../../../../secrets/pages-token"}, b"")),
    ),
    refused(
        "write-through-a-link",
        "A link points out of the folder, and a file is written through it.",
        packed(("out", {"type": LINK, "linkname": "/tmp"}, b""), ("out/@MARK@", {}, b"x")),
    ),
    refused("absolute-path", "A file's name begins at the root.", packed(("/tmp/@MARK@", {}, b"x"))),
    refused(
        "parent-path",
        "A file's name leads out of the folder, into another's submission.",
        packed(("../../victim/isolated/isolated.ipynb", {}, b"{}")),
    ),
    refused(
        "device-and-pipe",
        "The archive holds devices and pipes.",
        packed(("zero", {"type": DEVICE, "devmajor": 1, "devminor": 5}, b""), ("pipe", {"type": FIFO}, b"")),
    ),
    refused("sparse-file", "The archive holds a file of a petabyte that is empty.", packed(("sparse", {"type": SPARSE}, b""))),
    refused("archive-bomb", "A small archive unpacks to hundreds of megabytes.", zeros),
    refused("too-many-files", "The archive holds ten thousand files.", packed(*((f"f{n}", {}, b"") for n in range(10_000)))),
    refused("no-archive", "What is handed in is no archive.", lambda notebook, mark: b"\x1f\x8b" + b"junk" * 100),
    refused("twice-the-same-name", "Two files have the notebook's name.", packed(("isolated.ipynb", {}, b"{}"))),
    refused(
        "odd-names",
        "Files have names with newlines, markup, other encodings and nothing but dots.",
        packed(("a\nb", {}, b"x"), ("<script>alert(1)</script>.html", {}, b"x"), ("...", {}, b"x"), ("-rf", {}, b"x")),
    ),
    Case(
        "time-as-folder",
        "A folder is called timestamp.txt, with files in it.",
        cells=HONEST["isolated"],
        archive=packed(("timestamp.txt/x", {}, b"2001-01-01 00:00:00")),
        earns=MOST["isolated"],
        exactly=True,
        held="the time of a submission is the server's",
    ),
    Case(
        "time-of-my-own",
        "A timestamp.txt says that it was handed in a year ago, and another that it is no time.",
        cells=HONEST["isolated"],
        files={"timestamp.txt": b"2001-01-01 00:00:00 UTC\n"},
        earns=MOST["isolated"],
        exactly=True,
        held="the time of a submission is the server's",
    ),
    Case(
        "modules-beside-the-notebook",
        "Files beside the notebook have the names of modules that tests import.",
        files=dict.fromkeys(MODULES.split(), PATCH),
        held="tests do not import from the student's folder",
    ),
    Case(
        "checks-beside-the-notebook",
        "A package beside the notebook is called grading, another academy.",
        files={
            "grading/__init__.py": PATCH,
            "grading/checks.py": PATCH,
            "academy/__init__.py": PATCH,
            "nbgrader.py": PATCH,
            "sqlalchemy.py": PATCH,
            "docker.py": PATCH,
            "nbformat.py": PATCH,
        },
        held="tests do not import from the student's folder, and neither does the grader",
    ),
    Case(
        "modules-beside-an-ordinary-notebook",
        "Files beside an ordinary notebook are called like modules of its tests.",
        "ordinary",
        files={"numpy.py": PATCH, "numpy/__init__.py": PATCH, "numpy/testing.py": PATCH},
        first="""
            import sys
            sys.path.insert(0, "")
            for name in [name for name in sys.modules if name.startswith("numpy")]:
                del sys.modules[name]
         """,
        held="the tamper canaries notice",
    ),
    Case(
        "settings-beside-the-notebook",
        "Files beside the notebook are settings of nbgrader, Jupyter, IPython and pip.",
        files=dict.fromkeys(SETTINGS.split(), PATCH),
        held="settings are the academy's own",
    ),
    Case(
        "messages-of-my-own",
        "The file with the tests' messages is handed in changed.",
        files={"messages.json": b'{"language": "en", "messages": {"total": {"en": "<script>x</script>{0.__class__}"}}}'},
        hides=("{0.__class__}",),
        held="data files are the source's own",
    ),
    Case(
        "templates-beside-the-notebook",
        "Files beside the notebook are templates and pages of the feedback.",
        files={
            "index.html.j2": b"{{ 7*7 }}{% raw %}<script>alert(1)</script>",
            "feedback.html": b"<script>alert(1)</script>",
            "isolated.html": b"<script>alert(1)</script>OWNED-PAGE",
            "custom.css": b"@import 'https://example.org'",
        },
        hides=("OWNED-PAGE",),
        held="templates are the academy's own",
    ),
    Case(
        "more-notebooks",
        "More notebooks are handed in, with tests and points of their own.",
        files={"other.ipynb": b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', "ordinary.ipynb": b"{"},
        held="notebooks that the unit does not have are not graded",
    ),
]


@pytest.mark.docker
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_files_do_nothing(case: Case, grader: Grader, record_property: Record) -> None:
    contain(case, grader, record_property)
