"""From the POST that asks for a server to the event that it is ready: stock DockerSpawner against ours.

Both sides run the same image. Stock is configured as DockerSpawner's documentation does: image, network, a volume a person,
everything else at its default, and so runs ``jupyterhub-singleuser`` with the extensions that the packages enable; ours runs a
coursework server. Order alternates; both hubs run all the time.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
import httpx

from academy import network, proxy, settings
from academy.database import Database
from academy.images import image_tag
from academy.network import free_port
from academy.people import Person
from academy.settings import CHECKOUT
from benchmarks.report import Line, percentile, write

ONE_RUNS = int(os.environ.get("RUNS", "12"))  # servers one after another, on each side
TEN_ROUNDS = int(os.environ.get("ROUNDS", "3"))  # ten at once, on each side
IMAGE = os.environ.get("IMAGE") or image_tag("notebook")
USERS = [f"bench{number}" for number in range(10)]
TOKEN = secrets.token_hex(16)
SERVICE = f"""
c.JupyterHub.services.extend([{{"name": "bench", "api_token": "{TOKEN}"}}])
c.JupyterHub.load_roles.extend([{{"name": "bench", "scopes": ["admin:users", "admin:servers"], "services": ["bench"]}}])
"""
STOCK = """
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "dockerspawner.DockerSpawner"
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_ip = "{hub_ip}"
c.JupyterHub.hub_port = {hub_port}
c.JupyterHub.db_url = "sqlite:///{folder}/stock.sqlite"
c.ConfigurableHTTPProxy.command = {proxy}
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{proxy_port}"
c.DockerSpawner.image = "{image}"
c.DockerSpawner.network_name = "{network}"
c.DockerSpawner.use_internal_ip = True
c.DockerSpawner.prefix = "{name}-stock"
c.DockerSpawner.volumes = {{"{name}-stock-{{username}}": "/home/jovyan"}}
c.DockerSpawner.cmd = ["jupyterhub-singleuser"]
c.Spawner.default_url = "/lab"
"""


class Hub:
    """One side: a hub process, asked over its API."""

    def __init__(self, side: str, config: Path, port: int) -> None:
        self.side, self.engine = side, docker.from_env()
        command = [sys.executable, "-m", "jupyterhub", "--config", str(config)]
        with (config.parent / f"{side}.log").open("wb") as log:
            self.process = subprocess.Popen(command, cwd=config.parent, stdout=log, stderr=log, start_new_session=True)
        url = f"http://127.0.0.1:{port}/hub/api"
        self.http = httpx.Client(base_url=url, timeout=180, headers={"Authorization": f"token {TOKEN}"}, trust_env=False)
        deadline = time.monotonic() + 60
        while not self._answers():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"The {side} hub did not start:\n{(config.parent / f'{side}.log').read_text()[-3000:]}")
            time.sleep(0.2)
        for user in USERS:
            self.http.post(f"/users/{user}")

    def _answers(self) -> bool:
        try:
            return self.http.get("/users").status_code == 200
        except httpx.HTTPError:
            return False

    def start(self, user: str) -> dict[str, float | str]:
        """One server: seconds from POST to ready, and the CPU seconds that its container has used by then."""
        began = time.monotonic()
        reply = self.http.post(f"/users/{user}/server", json={})
        if reply.status_code not in (201, 202):
            raise RuntimeError(f"{self.side}: {reply.status_code} {reply.text}")
        with self.http.stream("GET", f"/users/{user}/server/progress") as events:
            for line in events.iter_lines():
                event = json.loads(line[5:]) if line.startswith("data:") else {}
                if event.get("failed"):
                    return self._failed(event, time.monotonic() - began)
                if event.get("ready"):
                    break
        return {"side": self.side, "seconds": time.monotonic() - began, "container_cpu": self._cpu(user)}

    def _failed(self, event: dict[str, Any], seconds: float) -> dict[str, float | str]:
        """A stock start that gave up counts with the time until then, which flatters it; ours may not fail."""
        if self.side == "ours":
            raise RuntimeError(f"ours: {event}")
        return {"side": self.side, "seconds": seconds, "container_cpu": 0.0, "failed": str(event["message"])}

    def _cpu(self, user: str) -> float:
        boxes = [box for box in self.engine.containers.list() if box.name.endswith(user) and self.prefix in box.name]
        if not boxes:
            return 0.0
        return float(boxes[0].stats(stream=False, one_shot=True)["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9

    prefix = ""

    def stop(self, users: list[str]) -> None:
        for user in users:
            self.http.delete(f"/users/{user}/server")
        for user in users:
            while self.http.get(f"/users/{user}").json()["servers"]:
                time.sleep(0.2)
        for box in self.engine.containers.list(all=True):
            if self.prefix in box.name and box.status == "exited":
                box.remove(v=True)  # a first start, not a restart, on both sides

    def cpu(self) -> float:
        """CPU seconds that the hub itself has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(30)


def hubs(folder: Path, name: str) -> tuple[Hub, Hub]:
    """The stock side and ours, on one network."""
    ports = [free_port() for _ in range(7)]
    keys = ("port", "hub_port", "pages_port", "proxy_api_port")
    toml = [f'[academy]\nname = "{name}"\ndata = "{folder}/data"', "[hub]"]
    toml += [f"{key} = {port}" for key, port in zip(keys, ports, strict=False)]
    toml += ['[spawner]\nbackend = "docker"', f'[backup]\nfolder = "{folder}/backups"']
    toml += [f'[profiles.cpu]\ntitle = {{ko = "CPU", en = "CPU"}}\ncpus = 2\nmemory_mb = 4096\nimage = "{IMAGE}"']
    (folder / "academy.toml").write_text("\n".join(toml) + "\n")
    os.environ["ACADEMY_CONFIG"] = str(folder / "academy.toml")
    ours = settings.load()
    database = Database(ours.database_url)
    database.upgrade()
    with database.write() as session:
        session.add_all(Person(login=user, name=user) for user in USERS)
    (folder / "ours.py").write_text(f'load_subconfig("{CHECKOUT}/jupyterhub_config.py")\n{SERVICE}')
    stock = STOCK.format(
        port=ports[4],
        hub_port=ports[5],
        proxy_port=ports[6],
        hub_ip=network.internal_address(ours),
        network=network.network_name(ours, "students"),
        image=IMAGE,
        proxy=proxy.command(),
        folder=folder,
        name=name,
    )
    (folder / "stock.py").write_text(stock + SERVICE)
    pair = Hub("stock", folder / "stock.py", ports[4]), Hub("ours", folder / "ours.py", ports[0])
    pair[0].prefix, pair[1].prefix = f"{name}-stock-", f"{name}-bench"
    return pair


def measure(stock: Hub, ours: Hub) -> dict[str, list[dict[str, Any]]]:
    one: list[dict[str, Any]] = []
    ten: list[dict[str, Any]] = []
    for turn in range(ONE_RUNS + 1):
        for hub in (stock, ours) if turn % 2 else (ours, stock):
            before = hub.cpu()
            run: dict[str, Any] = hub.start(USERS[0])
            run["hub_cpu"] = hub.cpu() - before
            hub.stop(USERS[:1])
            if turn:  # the first of each side makes its volume and warms the page cache
                one.append(run)
                print(f"one  {hub.side:<6} {run['seconds']:6.2f} s")
    for turn in range(TEN_ROUNDS):
        for hub in (stock, ours) if turn % 2 else (ours, stock):
            before = hub.cpu()
            with ThreadPoolExecutor(len(USERS)) as pool:
                runs = list(pool.map(hub.start, USERS))
            used = hub.cpu() - before
            hub.stop(USERS)
            ten += [{**run, "round": turn, "hub_cpu": used / len(USERS)} for run in runs]
            print(f"ten  {hub.side:<6} {statistics.median(float(run['seconds']) for run in runs):6.2f} s (median)")
    return {"one": one, "ten": ten}


def lines(runs: dict[str, list[dict[str, Any]]]) -> list[Line]:
    bounds = {"one": 2.0, "ten": 1.5}
    result: list[Line] = []
    for case, bound in bounds.items():
        medians = {}
        for side in ("stock", "ours"):
            mine = [run for run in runs[case] if run["side"] == side]
            seconds = [float(run["seconds"]) for run in mine]
            medians[side] = statistics.median(seconds)
            cpu = statistics.median(float(run["container_cpu"]) for run in mine)
            hub = statistics.median(float(run["hub_cpu"]) for run in mine)
            result += [
                Line(name=f"{case}_{side}_median_s", value=medians[side]),
                Line(name=f"{case}_{side}_p95_s", value=percentile(seconds, 0.95)),
                Line(name=f"{case}_{side}_cpu_s", value=cpu),
                Line(name=f"{case}_{side}_hub_cpu_s", value=hub),
            ]
        result.append(Line(name=f"{case}_median_ratio", value=medians["stock"] / medians["ours"], at_least=bound))
    return result


def clean(name: str) -> None:
    """Remove what both sides made."""
    engine = docker.from_env()
    for box in engine.containers.list(all=True, filters={"name": f"^/{name}-"}):
        box.remove(force=True, v=True)
    for volume in engine.volumes.list(filters={"name": f"{name}-"}):
        volume.remove(force=True)
    for found in engine.networks.list(names=[f"^{name}-"]):
        found.remove()


def main() -> int:
    name = f"bench{secrets.token_hex(3)}"
    with tempfile.TemporaryDirectory(prefix="academy-bench-") as folder, contextlib.ExitStack() as stack:
        stack.callback(clean, name)
        pair = hubs(Path(folder), name)
        for hub in pair:
            stack.callback(hub.close)
        runs = measure(*pair)
    return write("spawn", runs, lines(runs))


if __name__ == "__main__":
    sys.exit(main())
