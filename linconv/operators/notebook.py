"""The view of an operator in a notebook: shapes, nonzeros, bytes and the tree of its parts.

Standard library only; this file imports no operators and reads their attributes.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

from linconv.geometry import csr_nbytes

_STYLE = "margin:0 0 0 1.4em;padding:0;list-style:none"


def total(counts: Iterable[int | None]) -> int | None:
    """Return the sum of counts, None if one of them is not known."""
    known = list(counts)
    return None if None in known else sum(count for count in known if count is not None)


def tree(A: Any) -> str:
    """Return an operator as HTML: a line for it, and one for every part of it."""
    return f'<div style="font-family:monospace;line-height:1.5">{_node(A)}</div>'


def _node(A: Any) -> str:
    base, suffix = A, ""
    while "base" in base.__dict__:  # a view is shown as its base with .T, .H or .conj()
        suffix = repr(base).removeprefix(repr(base.base)) + suffix
        base = base.base
    name = html.escape(f"{type(base).__name__}({base._signature()}){suffix}")
    m, n = A.shape
    line = (
        f'<b>{name}</b> &nbsp;<span style="opacity:0.7">{m:,} &times; {n:,}, '
        f"{_entries(A)}</span>"
    )
    parts = getattr(base, "operands", ())
    if not parts:
        return f"<div>{line}</div>"
    children = "".join(f"<li>{_node(part)}</li>" for part in parts)
    return (
        f"<details open><summary>{line}</summary>"
        f'<ul style="{_STYLE}">{children}</ul></details>'
    )


def _entries(A: Any) -> str:
    nnz = A._nnz()
    if nnz is None:
        return "nonzeros: known to tosparse() only"
    return f"{nnz:,} nonzeros, {_bytes(csr_nbytes(A.shape, nnz, A.dtype.itemsize))} as CSR"


def _bytes(count: int) -> str:
    """Return a number of bytes in the largest unit that keeps a digit before the point."""
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.3g} {units[0]}" if size < 1000 else f"{size:,.0f} {units[0]}"
