"""One input of a dispatched matrix product: its size, how it lies in memory, what it came from, and which tensor it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from nmsim.training.recorder.origins import address


@dataclass(frozen=True)
class Matrix:
    """A matrix of `rows` x `columns`, `batch` of them where not None; `row_major` where the columns are contiguous.

    `origin` is a parameter's name, or what `origins` calls data and constants. `identity` (storage and offset) is shared by
    a tensor and its transposes. `tensor` keeps the storage alive until the step ends, so that an identity stays unique.
    """

    rows: int
    columns: int
    batch: int | None
    row_major: bool
    origin: str
    tensor: Tensor

    @classmethod
    def of(cls, tensor: Tensor, origin: str) -> Matrix:
        """The matrix, or the batch of matrices, that `tensor` [.., rows, columns] is."""
        rows, columns = tensor.shape[-2:]
        batch = tensor.shape[0] if tensor.dim() == 3 else None
        row_stride, column_stride = tensor.stride()[-2:]
        transposed = row_stride == 1 and (column_stride != 1 or columns == 1 < rows)
        return cls(rows, columns, batch, not transposed, origin, tensor.detach())

    @property
    def identity(self) -> tuple[int, int]:
        """Storage and offset."""
        return address(self.tensor), int(self.tensor.storage_offset())

    @property
    def transposed(self) -> Matrix:
        """The same stored tensor read with rows and columns exchanged."""
        return replace(self, rows=self.columns, columns=self.rows, row_major=not self.row_major, tensor=self.tensor.mT)

    @property
    def stored(self) -> Tensor:
        """The tensor as it lies in memory: [rows, columns] or [columns, rows]."""
        return self.tensor if self.row_major else self.tensor.mT

    def stored_axes(self, rows: str, columns: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """(axes, shape) of the stored tensor, its rows running along dimension `rows` of the GEMM and its columns along `columns`."""
        axes, shape = ((rows, columns), (self.rows, self.columns)) if self.row_major else ((columns, rows), (self.columns, self.rows))
        return (axes, shape) if self.batch is None else (("l", *axes), (self.batch, *shape))
