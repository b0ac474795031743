"""Folders are deleted whole, whatever their shape."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

from sandcove.trees import delete_tree


def test_however_many_files_a_folder_has_to_delete_it_takes_little_memory(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for folder in (tree, tree / "below", tree / "below" / "below"):
        folder.mkdir()
        for number in range(1500):
            os.close(os.open(folder / f"file-{number}", os.O_CREAT))
            if number % 10 == 0:
                (folder / f"folder-{number}" / "with-one").mkdir(parents=True)
    tracemalloc.start()
    try:
        delete_tree(tree)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not tree.exists()
    assert most < 100_000, "it was 384 bytes for each file"


def test_permissions_keep_nothing_and_links_are_not_followed(tmp_path: Path) -> None:
    outside, tree = tmp_path / "outside", tmp_path / "tree"
    outside.mkdir()
    (outside / "file").touch()
    inner = tree / "a" / "b" / "c"
    inner.mkdir(parents=True)
    (inner / "link").symlink_to(outside)
    (tree / "link").symlink_to(outside)
    for folder in (inner, inner.parent, inner.parent.parent, tree):
        folder.chmod(0)
    delete_tree(tree)
    assert not tree.exists() and (outside / "file").exists()
