"""The guide's page for Python says nothing that does not work: its code is run, from top to bottom."""

import re

from conftest import PICTURES, ROOT


def test_the_guides_code_runs(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs/src/python.md").read_text(encoding="utf-8")
    # Files are named by whoever drew them.
    page = page.replace("PICTURE.png", sorted((PICTURES / "bell").glob("*.png"))[0].name)
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    assert len(blocks) >= 6
    for name in ("weights", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, f"python.md: {block.splitlines()[0]}", "exec"), names)
    said = capsys.readouterr().out
    assert "['bell']" in said and "cannot decode picture" in said
    assert (tmp_path / "icons.safetensors").exists()
