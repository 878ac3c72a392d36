"""Inner products of fp16 rows with fp32 queries, compiled for the processor at hand.

A row is widened once for four queries: that is what a product costs beside reading. Compiled at the first
import and kept beside this file, or in the user's cache where that cannot be written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

TOGETHER = 4
"""Queries that share one reading of a row."""
_LOOSE = {"reassoc", "contract", "nsz"}
"""Sums in any order, several at once; what is not finite stays so."""
_CODES = types.Array(types.uint16, 2, "C", readonly=True)
_QUERIES, _OUT = types.Array(types.float32, 2, "C", readonly=True), types.float32[:, :]

Kernel = Callable[[NDArray[np.uint16], NDArray[np.float32], NDArray[np.float32]], None]


def dots(
    rows_ND: NDArray[np.float16], queries_QD: NDArray[np.float32], room: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the (Q, N) products of rows and queries, written into ``room``, (Q, N) at least."""
    codes, out = rows_ND.view(np.uint16), room[:, : len(rows_ND)]
    for start in range(0, len(queries_QD), TOGETHER):
        some = slice(start, start + TOGETHER)
        (_one if len(queries_QD[some]) == 1 else _four)(codes, queries_QD[some], out[some])
    return out


def _compiled(kernel: Kernel) -> Kernel:
    """Compile now, or load; where nothing can be written it is compiled in every process."""
    signature = types.void(_CODES, _QUERIES, _OUT)
    try:
        ready: Kernel = njit(signature, nogil=True, fastmath=_LOOSE, cache=True)(kernel)
    except RuntimeError:
        ready = njit(signature, nogil=True, fastmath=_LOOSE)(kernel)
    return ready


def _widen(_: Any, half: Any) -> Any:
    """Make the fp32 number of an fp16 code: one instruction, where numba itself knows no fp16."""

    def generate(__: Any, builder: Any, ___: Any, args: Any) -> Any:
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), generate


_widened: Any = intrinsic(_widen)


@_compiled
def _one(codes_ND: NDArray[np.uint16], query_1D: NDArray[np.float32], out_1N: NDArray[np.float32]) -> None:
    """Write the products of one query."""
    for row in range(codes_ND.shape[0]):
        total = np.float32(0.0)
        for i in range(codes_ND.shape[1]):
            total += _widened(codes_ND[row, i]) * query_1D[0, i]
        out_1N[0, row] = total


@_compiled
def _four(codes_ND: NDArray[np.uint16], queries_QD: NDArray[np.float32], out_QN: NDArray[np.float32]) -> None:
    """Write the products of two to four queries; of fewer than four the last is taken again."""
    last = len(queries_QD) - 1
    third, fourth = min(2, last), min(3, last)
    for row in range(codes_ND.shape[0]):
        a = b = c = d = np.float32(0.0)
        for i in range(codes_ND.shape[1]):
            x = _widened(codes_ND[row, i])
            a += x * queries_QD[0, i]
            b += x * queries_QD[1, i]
            c += x * queries_QD[third, i]
            d += x * queries_QD[fourth, i]
        out_QN[0, row], out_QN[1, row], out_QN[third, row], out_QN[fourth, row] = a, b, c, d
