"""A grading server: the course folder lies in the home, since formgrader links only to what is below the server's root."""

import contextlib
import os
from pathlib import Path

link = Path.home() / "course"
with contextlib.suppress(OSError):  # a full or odd home: formgrader works all the same, its links to notebooks do not
    if link.is_symlink():
        link.unlink()
    link.symlink_to(os.environ.get("ACADEMY_COURSE_FOLDER", "/srv/course"))
