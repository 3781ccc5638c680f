"""Changes of single rows of the index that several parts of the cache need; each runs inside the
caller's transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from orchestrator.cache.disk.eviction_policies import EvictionOrder
from orchestrator.cache.disk.file_names import Place, share_of
from orchestrator.cache.disk.files import Tree


def enter_file(
    db: sqlite3.Connection, order: EvictionOrder, place: Place, size: int, used: float
) -> None:
    """Count a file of `size` bytes, last used at `used`; replaces what was counted for it."""
    queue, turn = order.position_of_new(db, place, used)
    db.execute(
        "INSERT INTO entries (asset, name, bytes, last_used, share, queue, turn, pinned) "
        "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, EXISTS (SELECT 1 FROM pins p WHERE p.asset = ?1)) "
        "ON CONFLICT (asset, name) DO UPDATE SET bytes = excluded.bytes, "
        "pinned = excluded.pinned, last_used = max(last_used, excluded.last_used), "
        "turn = CASE WHEN ?8 THEN max(turn, excluded.turn) ELSE turn END",
        (
            place.asset,
            place.name,
            size,
            used,
            share_of(place.name),
            queue,
            turn,
            order.is_by_last_use,
        ),
    )


def enter_folder(db: sqlite3.Connection, tree: Tree, folder: str, text: str = "") -> int:
    """Count a folder with its present size; `text` is the id of its asset, if known. Returns its
    bytes.
    """
    size = tree.folder_size(folder) or 0
    row = db.execute("SELECT bytes, asset FROM folders WHERE path = ?", (folder,)).fetchone()
    if row is None:
        db.execute("INSERT INTO folders VALUES (?, ?, ?)", (folder, size, text))
    elif row[0] != size or (text and row[1] != text):
        values = (size, text or row[1], folder)
        db.execute("UPDATE folders SET bytes = ?, asset = ? WHERE path = ?", values)
    return size


def remove_empty_folder(db: sqlite3.Connection, tree: Tree, asset: str) -> None:
    """Remove the folder of an asset (its hash) if nothing is left in it."""
    folder = f"{asset[:2]}/{asset}"
    if tree.remove_folder(folder):
        db.execute("DELETE FROM folders WHERE path = ?", (folder,))


def match_file(
    db: sqlite3.Connection, tree: Tree, order: EvictionOrder, place: Place, used: float
) -> None:
    """Make the row match the file: delete the row of a missing file, enter an unknown file."""
    size = tree.size(place)
    if size is None:
        delete_rows(db, [place])
    elif not has_row(db, place):
        for folder in (place.asset[:2], place.folder):
            enter_folder(db, tree, folder)
        enter_file(db, order, place, size, used)


def has_row(db: sqlite3.Connection, place: Place) -> bool:
    """True if the index knows the file."""
    row = db.execute(
        "SELECT 1 FROM entries WHERE asset = ? AND name = ?", (place.asset, place.name)
    )
    return row.fetchone() is not None


def delete_rows(db: sqlite3.Connection, places: Iterable[Place]) -> None:
    """Stop counting these files."""
    db.executemany(
        "DELETE FROM entries WHERE asset = ? AND name = ?", [(p.asset, p.name) for p in places]
    )
