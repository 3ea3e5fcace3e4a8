"""All kinds of servers: JupyterLab in the person's language, and nothing that asks other hosts."""

import os
from pathlib import Path

c = get_config()  # noqa: F821

# The language that the hub knows; a person who chooses another in JupyterLab keeps theirs.
language = "en" if os.environ.get("ACADEMY_LANGUAGE") == "en" else "ko"
c.LabApp.app_settings_dir = str(Path(__file__).resolve().parent.parent / "language" / language)

c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.news_url = None
c.LabApp.extension_manager = "readonly"
c.FileContentsManager.delete_to_trash = False
c.HubOAuth.cache_max_age = 20  # seconds in which somebody from whom a prototype was withdrawn may still see it
