"""How long an operation takes on a machine: from its bytes and products, and what the machine takes for each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from foveate.measure.record import Operation

Steps = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Rates:
    """What one kind of operation costs: the sum of five parts.

    Attributes:
        fixed: Seconds for each operation, whatever its size.
        copies: How many times as long as a copy of as many bytes.
        product: Seconds for each multiply-accumulate.
        element: Seconds for each value.
        run: Seconds for each stretch of memory.
    """

    fixed: float = 0.0
    copies: float = 1.0
    product: float = 0.0
    element: float = 0.0
    run: float = 0.0


@dataclass(frozen=True)
class Machine:
    """How long operations take on a machine.

    Attributes:
        copying: Bytes read and written by a copy, and the seconds that they take beyond those of the smallest copy,
            in ascending order: every cache has its pace.
        making: Bytes of new memory, and the seconds that they take besides being written: large ones come from the
            system, a page at a time.
        rates: By kind of operation; what is not there counts as ``"elementwise"``.
        memory: Bytes of memory that it has; ``None`` where the system does not tell.

    Example:
        >>> machine = Machine(((1, 0.02),), rates={"elementwise": Rates(fixed=2.0, copies=1.0, element=0.5)})
        >>> machine.seconds(Operation("elementwise", bytes=50, elements=4))
        5.0
    """

    copying: Steps
    making: Steps = ()
    rates: Mapping[str, Rates] = field(default_factory=dict[str, Rates])
    memory: int | None = None

    def copied(self, moved: int, within: int = 0) -> float:
        """Seconds for reading and writing so many bytes, at the pace of the memory that holds as many as are in use.

        Args:
            moved: The bytes.
            within: Bytes that are gone through before these come again, if they are more.
        """
        within = max(1, moved, within)
        below = max((step for step in self.copying if step[0] <= within), default=self.copying[0])
        above = min((step for step in self.copying if step[0] > within), default=below)
        share = (within - below[0]) / (above[0] - below[0]) if above[0] > below[0] else 0.0
        slow, fast = above[1] / above[0], below[1] / below[0]
        return moved * (fast + share * (slow - fast))

    def fresh(self, made: int) -> float:
        """Seconds for so many bytes of new memory, besides writing them."""
        size, seconds = max((step for step in self.making if step[0] <= made), default=(1, 0.0))
        return made * seconds / size

    def seconds(self, operation: Operation, within: int = 0) -> float:
        """How long one operation takes.

        Args:
            operation: The operation.
            within: Bytes that all operations together go through, as in :meth:`copied`.
        """
        rates = self.rates.get(operation.kind) or self.rates.get("elementwise", Rates())
        factors = (rates.fixed, rates.copies, rates.product, rates.element, rates.run)
        amounts = self.amounts(operation, within)
        return sum(factor * part for factor, part in zip(factors, amounts, strict=True)) + self.fresh(operation.made)

    def amounts(self, operation: Operation, within: int = 0) -> tuple[float, ...]:
        """What the five rates are multiplied by; values count where no products do."""
        values = 0 if operation.products else operation.elements
        return (1.0, self.copied(operation.bytes, within), operation.products, values, operation.runs)

    def total(self, operations: Iterable[Operation], within: int = 0) -> float:
        """How long operations take, one after the other."""
        return math.fsum(self.seconds(operation, within) for operation in operations)
