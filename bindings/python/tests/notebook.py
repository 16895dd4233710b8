"""Runs a notebook from top to bottom: notebook.py NOTEBOOK. Fails where a cell does."""

import os
import pathlib
import sys
import time

import nbformat
from nbclient import NotebookClient

os.environ.setdefault("TIPI_TUNE", "off")
begun = time.perf_counter()
path = pathlib.Path(sys.argv[1]).resolve()
notebook = nbformat.read(path, as_version=4)
nbformat.validate(notebook)
if any(cell.get("outputs") for cell in notebook.cells):
    sys.exit(f"{path.name} holds outputs: clear them before it is committed")
NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}).execute()
code = [cell for cell in notebook.cells if cell.cell_type == "code"]
silent = [cell.source for cell in code if not cell.outputs and not cell.source.lstrip().startswith(("import", "from"))]
print(f"{path.name}: {len(code)} cells in {time.perf_counter() - begun:.1f} s, {len(silent)} without output")
