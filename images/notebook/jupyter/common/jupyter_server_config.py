"""All kinds of servers: JupyterLab in the person's language, and only the server extensions that are used."""

import json
import os
from pathlib import Path

c = get_config()  # noqa: F821

# The hub knows the person's language; JupyterLab reads it from the person's settings.
locale = "ko_KR" if os.environ.get("ACADEMY_LANGUAGE", "ko") == "ko" else "default"
settings = Path.home() / ".jupyter/lab/user-settings/@jupyterlab/translation-extension/plugin.jupyterlab-settings"
try:
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps({"locale": locale}))
except OSError:
    pass  # a full home: the server starts all the same, in the language it had

c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.news_url = None
c.FileContentsManager.delete_to_trash = False
