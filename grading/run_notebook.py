"""Runs a notebook inside the sandbox: reads one request on stdin, writes one line of JSON a cell on stdout.

The request is a line of JSON (``size``, ``notebook``, ``cell_timeout``, ``timeout_text``, ``output_bytes``, ``limits``) and
``size`` bytes of tar.gz, the folder to run in. The supervisor sends this file along with every run, and trusts nothing that
comes out: student code shares this process's user. Only the standard library, nbclient and nbformat are used.
"""

from __future__ import annotations

import io
import json
import os
import resource
import sys
import tarfile
from pathlib import Path
from typing import Any, BinaryIO

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

CLIPPED = 2000  # characters of an error or a result that are kept when the output limit is used up


class Runner(NotebookClient):
    """Runs every cell, errors or not, and hands each finished cell's outputs to the supervisor at once."""

    def __init__(self, notebook: NotebookNode, request: dict[str, Any], answers: BinaryIO) -> None:
        super().__init__(
            notebook,
            timeout=request["cell_timeout"],
            interrupt_on_timeout=True,
            error_on_timeout={"ename": "CellTimeoutError", "evalue": request["timeout_text"], "traceback": []},
            iopub_timeout=10,
            raise_on_iopub_timeout=True,
            allow_errors=True,
            record_timing=False,
            store_widget_state=False,
            coalesce_streams=True,
            kernel_name="python3",
            startup_timeout=120,
            skip_cells_with_tag="\0",  # a student's tag must not skip a test
            on_cell_executed=_keep_error,
        )
        self.answers = answers
        self.left = int(request["output_bytes"])
        self.cut = False

    def answer(self, **line: Any) -> None:
        self.answers.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        self.answers.flush()

    async def async_execute_cell(
        self, cell: NotebookNode, cell_index: int, execution_count: int | None = None, store_history: bool = True
    ) -> NotebookNode:
        cell = await super().async_execute_cell(cell, cell_index, execution_count, store_history)
        if cell.cell_type == "code":
            self.answer(cell=cell_index, count=cell.execution_count, outputs=cell.outputs)
        return cell

    def output(
        self, outs: list[NotebookNode], msg: dict[str, Any], display_id: str | None, cell_index: int
    ) -> NotebookNode | None:
        if not self.take(msg["content"]):
            msg = _clipped(msg)
            if msg["msg_type"] not in ("error", "execute_result"):  # these two decide about points: never lost
                return None
        return super().output(outs, msg, display_id, cell_index)

    def _update_display_id(self, display_id: str, msg: dict[str, Any]) -> None:
        if self.take(msg["content"]):
            super()._update_display_id(display_id, msg)

    def handle_comm_msg(self, outs: list[NotebookNode], msg: dict[str, Any], cell_index: int) -> None:
        """Widgets mean nothing here."""

    def take(self, content: dict[str, Any]) -> bool:
        """Whether this much output is still allowed; what does not fit is left out, and ``cut`` says so."""
        size = len(json.dumps(content, ensure_ascii=False, default=str).encode("utf-8", "replace"))
        if size > self.left:
            self.cut = True
            return False
        self.left -= size
        return True


def _keep_error(cell: NotebookNode, cell_index: int, execute_reply: dict[str, Any]) -> None:
    """An error that the kernel only mentions in its reply (time limit, a silenced traceback) still counts."""
    content = execute_reply["content"]
    if content.get("status") == "error" and not any(output.get("ename") == content.get("ename") for output in cell.outputs):
        ename, evalue = str(content.get("ename"))[:200], str(content.get("evalue"))[:CLIPPED]
        cell.outputs.append(nbformat.v4.new_output("error", ename=ename, evalue=evalue, traceback=[f"{ename}: {evalue}"]))


def _clipped(msg: dict[str, Any]) -> dict[str, Any]:
    content = msg["content"]
    if msg["msg_type"] == "error":
        short = {"ename": str(content["ename"])[:200], "evalue": str(content["evalue"])[:CLIPPED], "traceback": []}
        return {**msg, "content": short}
    if msg["msg_type"] == "execute_result":
        text = str(content.get("data", {}).get("text/plain", ""))[:CLIPPED]
        return {**msg, "content": {**content, "data": {"text/plain": text}, "metadata": {}}}
    return msg


def main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    request = json.loads(sys.stdin.buffer.readline())
    archive = sys.stdin.buffer.read(request["size"])
    folder = Path.home() / "work"
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder)  # noqa: S202  the supervisor packed it: plain files and folders, relative names
    for name, value in request["limits"].items():
        resource.setrlimit(getattr(resource, name), (value, value))
    notebook = nbformat.read(folder / request["notebook"], as_version=4)
    runner = Runner(notebook, request, answers)
    try:
        runner.execute(cwd=str(folder), stdout=nowhere, stderr=nowhere)
        end = "done"
    except CellTimeoutError:  # the interrupt did not help
        end = "stuck"
    except DeadKernelError:
        end = "died"
    runner.answer(end=end, cut=runner.cut)


if __name__ == "__main__":
    main()
